"""How soon a first step comes while the decoder is busy, and a cancelled picture's place is free.

Both in steps of the decoder, as they take while it is busy.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass
from typing import Any

import grpc.aio

from services.wire.stages import APPLICATION_KEY
from tests.bench.overload import OPTIONS
from unclip.internal.v1 import stage_service_pb2, stage_service_pb2_grpc
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PROBES = 15
BESIDE = 2  # pictures that are always being drawn
STEPS = 60  # of each of these


@dataclass(frozen=True)
class Waits:
    """Medians. step: of the decoder while it is busy, in s; the others in such steps."""

    step: float
    first_step: float
    freed: float


def request(steps: int, seed: int) -> pb.StreamRequest:
    """A picture of the base network's size with so many steps."""
    options = pb.SamplingOptions(n=1, seed=seed, decoder_steps=steps)
    return pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox in the snow", size=64, options=options))


async def probed(stub: Any, seed: int) -> tuple[float, list[tuple[float, int]]]:
    """When the prior was done, and when which steps of the decoder were told, of one picture."""
    drawn = 0.0
    steps: list[tuple[float, int]] = []
    async for response in stub.Stream(request(6, seed)):
        now = time.monotonic()
        if response.HasField("progress"):
            if response.progress.stage == pb.STAGE_PRIOR:
                drawn = now
            elif response.progress.step:
                steps.append((now, response.progress.step))
    return drawn, steps


async def cancelled(stub: Any, describing: Any, seed: int, beside: int) -> float:
    """Seconds until the places are free of a picture that is cancelled in its third step."""
    call = stub.Stream(request(STEPS, seed))
    async for response in call:
        if response.progress.stage == pb.STAGE_DECODER and response.progress.step >= 3:
            break
    metadata = ((APPLICATION_KEY, "decoder"),)
    started = time.monotonic()
    call.cancel()
    while True:
        answer = await describing.Describe(stage_service_pb2.DescribeRequest(), metadata=metadata)
        if answer.load.rows_running + answer.load.rows_waiting <= beside:
            return time.monotonic() - started
        await asyncio.sleep(0.002)


async def waits(gateway: str, stages: str) -> Waits:
    """Probes, then cancelled pictures, beside others that are always being drawn."""
    seeds = itertools.count()
    async with (
        grpc.aio.insecure_channel(gateway, options=OPTIONS) as channel,
        grpc.aio.insecure_channel(stages) as other,
    ):
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        describing: Any = stage_service_pb2_grpc.StageServiceStub(other)

        async def always() -> None:
            while True:
                async for _ in stub.Stream(request(STEPS, next(seeds))):
                    pass

        beside = [asyncio.create_task(always()) for _ in range(BESIDE)]
        await asyncio.sleep(3)
        firsts: list[float] = []
        steps: list[float] = []
        for _ in range(PROBES):
            drawn, times = await probed(stub, next(seeds))
            for (sooner, before), (later, after) in itertools.pairwise(times):
                steps.append((later - sooner) / (after - before))
            firsts.append(times[0][0] - drawn)
        freed = [await cancelled(stub, describing, next(seeds), BESIDE) for _ in range(PROBES)]
        assert not any(task.done() for task in beside), "the decoder was not always busy"
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    step = statistics.median(steps)
    # The first step's end is seen, which is a step after it began.
    first = statistics.median(firsts) / step - 1
    return Waits(round(step, 4), round(first, 2), round(statistics.median(freed) / step, 2))
