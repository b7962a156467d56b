"""How time and the decoder's memory grow: with pictures of a request, size, steps, and the queue."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import matplotlib.pyplot as plt
import psutil

from tests.bench.overload import OPTIONS
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

MIB = 2**20
VALUES = {
    "pictures": (1, 2, 4, 8),
    "size": (64, 256, 512, 1024),
    "steps": (4, 8, 16, 32, 64),
    "queue": (1, 2, 4, 8, 16),
}
REPEATS = 3


@dataclass(frozen=True)
class Point:
    """What was asked for, the median of the seconds that it took, and MiB of the decoder's process then."""

    varied: str
    value: int
    seconds: float
    decoder: float


async def growth(gateway: str) -> list[Point]:
    """Each is varied by itself; the rest are the defaults, at the base network's size."""
    points = []
    async with grpc.aio.insecure_channel(gateway, options=OPTIONS) as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        await draw(stub, "pictures", 1)
        for varied, values in VALUES.items():
            for value in values:
                times = [await draw(stub, varied, value) for _ in range(REPEATS)]
                points.append(Point(varied, value, round(statistics.median(times), 3), decoder_memory()))
    return points


async def draw(stub: Any, varied: str, value: int) -> float:
    """Seconds until all that was asked for is there."""
    options = pb.SamplingOptions(n=value if varied == "pictures" else 1, seed=1)
    if varied == "steps":
        options.decoder_steps = value
    size = value if varied == "size" else 64
    request = pb.GenerateRequest(prompt="a fox in the snow", size=size, options=options)
    started = time.monotonic()
    await asyncio.gather(*(stub.Generate(request) for _ in range(value if varied == "queue" else 1)))
    return time.monotonic() - started


def decoder_memory() -> float:
    """MiB of the decoder's replica on this machine."""
    for process in psutil.process_iter(["cmdline"]):
        if "ServeReplica:decoder" in " ".join(process.info["cmdline"] or ()):
            return round(process.memory_info().rss / MIB, 1)
    return 0.0


def plot(points: Sequence[Point], path: Path) -> None:
    """A panel for each."""
    by_name: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_name[point.varied].append(point)
    figure, axes = plt.subplots(1, len(by_name), figsize=(4 * len(by_name), 4))
    for axis, (name, own) in zip(axes, by_name.items(), strict=True):
        values = [point.value for point in own]
        axis.plot(values, [point.seconds for point in own], marker="o", label="seconds")
        axis.set_xlabel(name)
        axis.set_ylim(bottom=0)
        memory = axis.twinx()
        memory.plot(values, [point.decoder for point in own], color="grey", linestyle=":")
        memory.set_ylim(bottom=0)
    axes[0].set_ylabel("seconds (solid), MiB of the decoder (dotted)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
