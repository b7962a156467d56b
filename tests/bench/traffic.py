"""What one picture moves between processes, over its own bytes: by the counters of the loopback device."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
import psutil

from tests.bench.overload import OPTIONS
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PICTURES = 8
SIDE = 256
IDLE_SECONDS = 10.0


def moved() -> int:
    """Bytes that processes of this machine have sent one another."""
    return int(psutil.net_io_counters(pernic=True)["lo"].bytes_sent)


async def traffic(gateway: str) -> float:
    """Bytes of a picture from request to answer, less what moves anyway, over its pixels' bytes."""
    async with grpc.aio.insecure_channel(gateway, options=OPTIONS) as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)

        async def draw(seed: int) -> None:
            options = pb.SamplingOptions(n=1, seed=seed)
            await stub.Generate(pb.GenerateRequest(prompt="a fox in the snow", size=SIDE, options=options))

        await draw(0)
        before = moved()
        await asyncio.sleep(IDLE_SECONDS)
        idle = (moved() - before) / IDLE_SECONDS
        before, started = moved(), time.monotonic()
        for seed in range(1, PICTURES + 1):
            await draw(seed)
        whole = moved() - before - idle * (time.monotonic() - started)
    return round(whole / PICTURES / (3 * SIDE**2), 2)
