"""``python -m deploy.local.fork_server LISTENER``: Ray's workers as forks of one process.

It imports once what the workers of the local stack need. A fork is there at once instead of after three
seconds, and shares the memory of what was imported, some 300 MiB for a replica, with all the others. The
server ends when its standard input does, which the stack holds open.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from deploy.local.forked_worker import ADDRESS, STANDARD, become_worker

STAGES = (
    "services.telemetry.tracing",
    "services.text_encoder.stage",
    "services.image_encoder.stage",
    "services.prior.stage",
    "services.decoder.stage",
)
RAY = (
    "ray._private.workers.default_worker",
    "ray.serve._private.controller",
    "ray.serve._private.proxy",
    "ray.serve._private.replica",
    "services.serving.metrics",
)
# While it is imported Ray reads its raylet's process from the environment, which is the same for all workers,
# and a job. With this one a worker may be given any.
NO_JOB = {"RAY_JOB_ID": "ffffffff"}
BACKLOG = 128
SECONDS = 10.0  # for a worker's message


class Start(NamedTuple):
    """How a worker is to be started. files: its standard input, output and errors, open here."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: Sequence[int]


@contextlib.contextmanager
def fork_server_running() -> Iterator[None]:
    """Workers that are started inside the block ask a server for a fork. It may still be importing.

    Does nothing where processes that import such libraries cannot be forked, which is all but Linux.
    """
    if sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        address = str(Path(folder) / "socket")
        with _listening(address) as server:
            os.environ[ADDRESS] = address
            try:
                yield
            finally:
                del os.environ[ADDRESS]
                server.kill()


def _listening(address: str) -> subprocess.Popen[bytes]:
    """A server to which workers can connect from now on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(BACKLOG)
        number = listener.fileno()
        command = [sys.executable, "-m", "deploy.local.fork_server", str(number)]
        # One thread, as Ray's own workers have: a process with more cannot be forked safely.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True
        )


def main(listener: int) -> None:
    """Fork a worker for each one that asks, until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers that have ended
    import_stages()
    with socket.socket(fileno=listener) as listening:
        start = forked(listening)
    if start is not None:
        take_over(start)
        become_worker(start.arguments)


def import_stages() -> None:
    """What the replicas need beside Ray."""
    for name in STAGES:
        importlib.import_module(name)
    _share()


def import_ray(environment: Mapping[str, str]) -> None:
    """What all workers need of Ray, in a worker's environment.

    Ray draws a number for each actor's class, from a generator that is seeded by the first draw. Forks must
    not share it: they name their objects by it.
    """
    os.environ.update({**environment, **NO_JOB})
    import ray.actor

    with patch.object(ray.actor, "ActorClassID", _DrawnByTheSystem):
        for name in RAY:
            importlib.import_module(name)
    _share()


class _DrawnByTheSystem:
    @staticmethod
    def from_random() -> Any:
        import ray

        return ray.ActorClassID(os.urandom(ray.ActorClassID.size()))


def _share() -> None:
    """Leave all there is to no garbage collection: a fork's would write to what it shares."""
    gc.collect()
    gc.freeze()


def forked(listener: socket.socket) -> Start | None:
    """In a fork: how its worker is to be started. In the server: nothing, when standard input has ended.

    Ray is imported in the environment of the first that asks.
    """
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while all(key.fileobj is listener for key, _ in ready.select()):
            connection, _ = listener.accept()
            with connection:
                start = _asked(connection)
                if start is None:
                    continue
                if "ray" not in sys.modules:
                    import_ray(start.environment)
                if not os.fork():
                    return start
                _answer(connection, start)
    return None


def take_over(start: Start) -> None:
    """Make this fork what the process was that asked for it."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for standard, file in zip(STANDARD, start.files, strict=True):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(start.environment)
    os.chdir(start.folder)


def _asked(connection: socket.socket) -> Start | None:
    """What a worker's process has sent; nothing if it has ended before all of it was."""
    connection.settimeout(SECONDS)
    files: list[int] = []
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, len(STANDARD))
        with connection.makefile("rb") as message:
            return Start(**json.load(message), files=files)
    except (OSError, ValueError, TypeError):
        _close(files)
        return None


def _answer(connection: socket.socket, start: Start) -> None:
    """Tell the process that its worker has begun, and let go of its files."""
    _close(start.files)
    with contextlib.suppress(OSError):
        connection.sendall(b"\0")


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


if __name__ == "__main__":
    main(int(sys.argv[1]))
