"""The gateway or a stage full, too little time, odd numbers: refused at once, and told when to try again."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from gateway.settings import SHIPPED
from tests.fakes.stages import FakeStages, load_of
from tests.gateway.conftest import FOX, SERVING, Front, fronting, health, png_of, refusal, until
from tests.statuses import refused_by, retry_delay, violations
from unclip.v1 import image_service_pb2 as pb

LARGE = 2**32 - 1


# --- the gateway is full ---


async def test_a_full_gateway_refuses_with_a_delay_and_still_answers_probes() -> None:
    stages = FakeStages(delay=30)
    async with fronting(stages, max_requests=2) as front:
        held = [asyncio.ensure_future(front.images.Generate(FOX)) for _ in range(2)]
        await until(lambda: len(stages.tasks) == 2)
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (retry_delay(error) or 0) > 0
        assert await health(front.channel, "live") == SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(front.channel)  # type: ignore[arg-type]
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        assert [r async for r in reflection.ServerReflectionInfo(iter(asked))]
        for call in held:
            call.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        stages.delay = 0
        await until(lambda: front.gateway.models.places._requests == 0)
        assert (await front.images.Generate(FOX)).pictures


async def test_health_watches_take_no_places() -> None:
    async with fronting(FakeStages(), max_requests=1) as front:
        stub: Any = health_pb2_grpc.HealthStub(front.channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]
        for watch in watches:
            await watch.read()
        assert (await front.images.Generate(FOX)).pictures


async def test_bytes_in_work_are_bounded() -> None:
    stages = FakeStages(delay=30)
    picture = png_of(np.random.default_rng(0).integers(0, 255, (480, 256, 3), dtype=np.uint8))
    request = pb.OutpaintRequest(picture=picture, prompt="a fox", margins=pb.Margins(left=8))
    small = {"max_picture_pixels": 2**17, "max_result_pixels": 2**17, "max_picture_bytes": 2**19}
    async with fronting(stages, max_bytes_in_work=10 * 2**20, **small) as front:
        held = asyncio.ensure_future(front.images.Outpaint(request))
        await until(lambda: len(stages.tasks) == 1)
        error = await refusal(front.images.Outpaint(request))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (retry_delay(error) or 0) > 0
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        await until(lambda: front.gateway.models.places._bytes == 0)
        stages.delay = 0
        assert (await front.images.Outpaint(request)).pictures


async def test_a_message_over_the_limit_is_told_apart_from_a_full_service() -> None:
    async with fronting(FakeStages(), max_picture_bytes=2**20) as front:
        error = await refusal(front.images.EmbedImage(pb.EmbedImageRequest(picture=b"x" * (2**20 + 1))))
        assert violations(error) == ["picture"]
        error = await refusal(front.images.EmbedImage(pb.EmbedImageRequest(picture=b"x" * 2**22)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delay(error) is None


# --- there is no time ---


async def test_what_cannot_be_in_time_is_refused_before_any_stage_works() -> None:
    stages = FakeStages(load=load_of(backlog=100, seconds=0.1))
    async with fronting(stages, look_interval=0.05) as front:
        await front.images.GetModel(pb.GetModelRequest())
        async with asyncio.timeout(2):
            error = await refusal(front.images.Generate(FOX, timeout=5))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (retry_delay(error) or 0) > 50
        assert not stages.texts
        assert not stages.tasks
        assert (await front.images.Generate(FOX)).pictures  # without a deadline there is time


async def test_what_takes_longer_than_its_deadline_is_told_so_without_a_delay() -> None:
    stages = FakeStages(load=load_of(seconds=5), default_steps=10)
    async with fronting(stages) as front:
        await front.images.GetModel(pb.GetModelRequest())
        error = await refusal(front.images.Generate(FOX, timeout=5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert retry_delay(error) is None
        assert not stages.tasks


async def test_a_stage_without_a_free_row_refuses_at_the_door() -> None:
    stages = FakeStages(load=load_of(max_rows=2, rows=1))
    async with fronting(stages) as front:
        request = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=3))
        await front.images.GetModel(pb.GetModelRequest())
        error = await refusal(front.images.Generate(request))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused_by(error) == "gateway"
        assert not stages.tasks


async def test_a_deadline_that_passes_cancels_the_stages_work() -> None:
    stages = FakeStages(step_seconds=0.05, default_steps=50)
    async with fronting(stages) as front:
        error = await refusal(front.images.Generate(FOX, timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: stages.sampling == 0)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_caller_that_leaves_cancels_the_stages_work(streaming: bool) -> None:
    stages = FakeStages(step_seconds=0.05, default_steps=200)
    async with fronting(stages) as front:
        request = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=3))
        if streaming:
            call = front.images.Stream(pb.StreamRequest(generate=request))
            await call.read()
        else:
            call = front.images.Generate(request)
        await until(lambda: stages.sampling == 3)
        call.cancel()
        await until(lambda: stages.sampling == 0, 2)
        await until(lambda: front.gateway.models.places._requests == 0)
        ledgers = front.gateway.models._images[SHIPPED].admission.ledgers
        assert all(not ledger.entries for ledger in ledgers.values())


# --- odd requests ---


@pytest.mark.parametrize("size", [6000, LARGE])
async def test_an_odd_number_costs_no_memory(front: Front, size: int) -> None:
    picture = png_of(Image.new("RGB", (32, 32), "red"))
    tracemalloc.start()
    error = await refusal(front.images.Vary(pb.VaryRequest(picture=picture, size=size)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert violations(error) == ["size"]
    assert peak < 5 * 2**20


async def test_a_result_over_the_limit_is_refused(front: Front) -> None:
    picture = png_of(Image.new("RGB", (512, 64), "red"))
    mask = png_of(Image.new("L", (512, 64), 255))
    request = pb.InpaintRequest(picture=picture, mask=mask, prompt="a fox", size=1024)
    assert violations(await refusal(front.images.Inpaint(request))) == ["size"]


@pytest.mark.parametrize("count", [80, 100, 5000])
async def test_many_wrong_fields_are_told_within_bounds(front: Front, count: int) -> None:
    picture = png_of(Image.new("RGB", (9, 9), "red"))
    captions = ["🦊" * 1100] * count
    error = await refusal(
        front.images.RankCaptions(pb.RankCaptionsRequest(picture=picture, captions=captions))
    )
    assert 1 <= len(violations(error)) <= 16
