"""Ray's workers as forks of one process, beside Ray's own worker, which tells what arguments it misses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import forked_worker
from deploy.local.fork_server import fork_server_running
from deploy.local.forked_worker import ADDRESS

USAGE = "the following arguments are required: --cluster-id"


def worker(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """What Ray starts for a worker, without its arguments. A fork of it ends before its errors do."""
    environment = {**os.environ, ADDRESS: address, "COLUMNS": "400"}
    command = [sys.executable, forked_worker.__file__]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with fork_server_running():
        yield os.environ[ADDRESS]
    assert ADDRESS not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
def test_a_fork_becomes_the_worker_and_the_process_that_asked_ends(address: str, tmp_path: Path) -> None:
    for _ in range(2):
        ended = worker(tmp_path, address)
        assert ended.returncode == 0
        assert USAGE in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
def test_what_is_no_worker_does_not_end_the_server(address: str, tmp_path: Path) -> None:
    messages = (b"", b"\0", b"\0no JSON", b'\0{"arguments": []}')
    for message in messages:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(address)
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    assert worker(tmp_path, address).returncode == 0


def test_without_a_server_the_process_becomes_the_worker_itself(tmp_path: Path) -> None:
    ended = worker(tmp_path, str(tmp_path / "nothing"))
    assert ended.returncode == 2
    assert USAGE in ended.stderr


def test_what_is_imported_leaves_threads_devices_and_random_numbers_to_the_forks() -> None:
    """A fork has none of its parent's threads, cannot use a GPU that its parent has begun to use, and names
    its objects as other forks do if its parent had begun to draw.
    """
    script = """
        import os, torch
        from deploy.local.fork_server import import_ray, import_stages

        def used(*args):
            raise AssertionError("a device was looked for")

        torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = used
        import_stages()
        import_ray(os.environ)
        assert not os.path.isdir("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
        import ray

        for _ in range(2):
            if not os.fork():
                print(ray.ObjectRef.from_random().hex(), flush=True)
                os._exit(0)
            os.wait()
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second = found.stdout.split()
    assert first != second
