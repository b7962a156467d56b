"""``python tests/bench/held.py FILE``: what the stack holds whose command this is, as JSON.

It is run beside other commits' trees, so of ours it imports the messages alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import grpc
import psutil

MIB = 2**20
REQUESTS = 6


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


def drawn(count: int) -> float:
    """Seconds of a request for so many pictures of 256 px with the model's defaults: the least of a few."""
    from unclip.v1 import image_service_pb2 as pb
    from unclip.v1 import image_service_pb2_grpc

    times = []
    any_length = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(os.environ["UNCLIP_ADDRESS"], any_length) as channel:
        stub = image_service_pb2_grpc.ImageServiceStub(channel)
        for seed in range(REQUESTS):
            options = pb.SamplingOptions(n=count, seed=seed)
            started = time.perf_counter()
            stub.Generate(pb.GenerateRequest(prompt="a fox in the snow", size=256, options=options))
            times.append(time.perf_counter() - started)
    return min(times)


def busy_seconds() -> float:
    """CPU seconds of the whole machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


if __name__ == "__main__":
    found = looked()
    found |= {"picture": drawn(1), "four": drawn(4)}
    Path(sys.argv[1]).write_text(json.dumps(found))
