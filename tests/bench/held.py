"""``python tests/bench/held.py FILE``: what the stack holds whose command this is, as JSON.

It imports nothing of ours, since it is run beside other commits' trees.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import psutil

MIB = 2**20


def looked() -> dict[str, float]:
    """By the command that the stack runs once it is ready: MiB, and the time."""
    stack = psutil.Process(os.getppid())
    held = {"memory": 0.0, "replicas": 0.0, "resident": 0.0}
    for process in [stack, *stack.children(recursive=True)]:
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error):
            info = process.memory_full_info()
            replica = "ServeReplica" in " ".join(process.cmdline())
            held["memory"] += info.pss / MIB
            held["resident"] += info.rss / MIB
            held["replicas"] += replica * info.pss / MIB
    return {"time": time.time(), "cpu": busy_seconds(), **held}


def busy_seconds() -> float:
    """CPU seconds of the whole machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(looked()))
