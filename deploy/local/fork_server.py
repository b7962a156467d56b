"""``python -m deploy.local.fork_server LISTENER``: Ray's workers as forks of one process.

It imports once what the workers of the local stack need. A fork is there at once instead of after three
seconds, and shares the memory of what was imported, some 300 MiB for a replica, with all the others. The
server ends when its standard input does, which the stack holds open.

A variable of a Ray runtime environment does not reach what was read before the fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
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

from deploy.local.forked_worker import ADDRESS, OUT_OF_MEMORY, STANDARD, become_worker
from services.bundles.bundle import ROOT

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
# A process with more threads than one cannot be forked safely.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# While it is imported Ray reads two variables: its raylet's process, which all workers have in common, and
# the worker's job. This one stands for none yet, so that a fork can be given any.
NO_JOB = {"RAY_JOB_ID": "ffffffff"}
BACKLOG = 128
SECONDS = 2.0  # for a worker's message


class Start(NamedTuple):
    """How a worker is to be started. files: its standard input, output and errors, open here.

    open_files: its limit. out_of_memory: as Linux has it in ``oom_score_adj``.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    open_files: int
    out_of_memory: str
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
            try:
                with patch.dict(os.environ, {ADDRESS: address}):
                    yield
            finally:
                server.kill()


def _listening(address: str) -> subprocess.Popen[bytes]:
    """A server to which workers can connect from now on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(BACKLOG)
        number = listener.fileno()
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.fork_server", str(number)],
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            stdin=subprocess.PIPE,
            pass_fds=[number],
            start_new_session=True,
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
    assert "ray" not in sys.modules, "Ray is imported in the environment of a worker"
    _share()


def import_ray(environment: Mapping[str, str]) -> None:
    """What all workers need of Ray, in a worker's environment.

    Ray draws a number for each actor's class, which seeds its generator of ids. Forks must not share it: two
    that begin at once would give their first objects the same name, and one would die.
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
    """Keep what there is out of garbage collections, which would write to pages that forks share."""
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
                if _waits(connection) and not os.fork():
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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (start.open_files, most))
    OUT_OF_MEMORY.write_text(start.out_of_memory)


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


def _waits(connection: socket.socket) -> bool:
    """Whether the process is still there: Ray ends one that takes too long, and starts another."""
    poll = select.poll()
    poll.register(connection, 0)  # tells only that the other side has closed it
    return not poll.poll(0)


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
