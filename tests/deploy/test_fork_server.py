"""Ray's workers as forks of one process, beside Ray's own worker, which tells what arguments it misses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import forked_worker
from deploy.local.fork_server import ONE_THREAD, fork_server_running
from deploy.local.forked_worker import ADDRESS

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
USAGE = "the following arguments are required: --cluster-id"


def worker(address: str) -> subprocess.CompletedProcess[str]:
    """What Ray starts for a worker, without its arguments. A fork of it ends before its errors do."""
    environment = {**os.environ, ADDRESS: address}
    command = [sys.executable, forked_worker.__file__]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def python(script: str, **options: Any) -> str:
    """What a script prints, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with fork_server_running():
        yield os.environ[ADDRESS]
    assert ADDRESS not in os.environ


@LINUX
def test_a_fork_becomes_the_worker_and_the_process_that_asked_ends(address: str) -> None:
    for _ in range(2):
        ended = worker(address)
        assert ended.returncode == 0
        assert USAGE in ended.stderr


@LINUX
def test_what_is_no_worker_does_not_end_the_server(address: str) -> None:
    for message in (b"", b"\0", b"\0no JSON", b'\0{"arguments": []}'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(address)
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    assert worker(address).returncode == 0


@LINUX
def test_a_process_that_has_gone_gets_no_fork(address: str, tmp_path: Path) -> None:
    start = {
        "arguments": [],
        "environment": dict(os.environ),
        "folder": str(tmp_path),
        "open_files": 1024,
        "out_of_memory": "1000",
    }
    errors, of_worker = os.pipe()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"\0"], [of_worker] * 3)
        connection.sendall(json.dumps(start).encode())
    os.close(of_worker)
    with open(errors) as told:
        assert told.read() == ""


def test_without_a_server_the_process_becomes_the_worker_itself(tmp_path: Path) -> None:
    ended = worker(str(tmp_path / "nothing"))
    assert ended.returncode == 2
    assert USAGE in ended.stderr


@LINUX
def test_a_worker_whose_server_dies_meanwhile_becomes_the_worker_itself() -> None:
    before = set(psutil.Process().children())
    with fork_server_running():
        (server,) = set(psutil.Process().children()) - before
        server.suspend()
        threading.Timer(1.0, server.kill).start()
        assert worker(os.environ[ADDRESS]).returncode == 2


@LINUX
def test_the_server_ends_when_the_stack_is_killed() -> None:
    script = """
        import os, psutil, signal
        from deploy.local.fork_server import fork_server_running

        with fork_server_running():
            print(psutil.Process().children()[0].pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(killed.stdout)).wait(60)


@LINUX
def test_a_fork_has_all_that_ray_gave_the_process_which_asked(tmp_path: Path) -> None:
    script = f"""
        import json, os, resource, signal
        from deploy.local.fork_server import Start, take_over

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        errors = os.open({str(tmp_path / "errors")!r}, os.O_WRONLY | os.O_CREAT)
        start = Start([], {{"ONLY": "this"}}, {str(tmp_path)!r}, 123, "777", [os.dup(0), os.dup(1), errors])
        if not os.fork():
            take_over(start)
            os.write(2, b"told")
            print(json.dumps([
                dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(),
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                open("/proc/self/oom_score_adj").read().strip(),
                signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            ]), flush=True)
            os._exit(0)
    """
    found = json.loads(python(script))
    assert found == [{"ONLY": "this"}, str(tmp_path), True, 123, "777", True]
    assert (tmp_path / "errors").read_text() == "told"


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
    first, second = python(script, env={**os.environ, **ONE_THREAD}).split()
    assert first != second
