"""What Ray starts for a worker of the local stack: the fork server's fork becomes that worker in its place.

Ray runs it as a script, so it imports little. Without a fork server it becomes the worker itself.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

ADDRESS = "WORKER_FORK_SERVER"  # the environment variable with the path of its socket
SECONDS = 50.0  # until it has imported all; after 60 Ray starts another worker
STANDARD = (0, 1, 2)  # input, output and errors
OUT_OF_MEMORY = Path("/proc/self/oom_score_adj")  # Ray lets its workers be killed first


def main() -> None:
    """Ask for a fork, or become the worker."""
    if not handed_over(os.environ.get(ADDRESS, "")):
        become_worker(sys.argv[1:])


def handed_over(address: str) -> bool:
    """Whether a fork has begun with all that this process has of Ray."""
    try:
        start = {
            "arguments": sys.argv[1:],
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "out_of_memory": OUT_OF_MEMORY.read_text(),
        }
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(SECONDS)
            server.connect(address)
            socket.send_fds(server, [b"\0"], STANDARD)
            server.sendall(json.dumps(start).encode())
            server.shutdown(socket.SHUT_WR)
            return server.recv(1) == b"\0"
    except OSError:
        return False


def become_worker(arguments: list[str]) -> None:
    """Run Ray's own worker, with these arguments."""
    package = find_spec("ray")
    assert package is not None
    assert package.origin is not None
    script = Path(package.origin).parent / "_private/workers/default_worker.py"
    sys.path[0] = str(script.parent)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
