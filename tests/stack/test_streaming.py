"""Streams, cancellation, deadlines and company: what happens while pictures are being made."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.pictures import drawn
from tests.stack.conftest import StageInfo, pixels, quick
from unclip.v1 import image_service_pb2 as pb

PROMPT = "a red apple on a wooden table"


def stream_request(**options: Any) -> pb.StreamRequest:
    return pb.StreamRequest(generate=pb.GenerateRequest(prompt=PROMPT, options=quick(**options)))


async def until_idle(stage: StageInfo, seconds: float = 30) -> None:
    """Wait until no row has a place in the stage."""
    deadline = time.monotonic() + seconds
    while (await stage.load()).rows_running:
        assert time.monotonic() < deadline, "rows were not freed"
        await asyncio.sleep(0.05)


async def test_a_stream_tells_progress_shows_previews_and_ends_in_pictures(images: Any) -> None:
    responses = [r async for r in images.Stream(stream_request(n=2, decoder_steps=6, preview_interval=2))]
    steps = [
        (r.progress.stage, r.progress.step, r.progress.steps)
        for r in responses
        if r.HasField("progress") and r.picture_index == 0
    ]
    stages = (pb.STAGE_PRIOR, pb.STAGE_DECODER, pb.STAGE_UPSAMPLER)
    assert [last[1:] for stage in stages for last in [[s for s in steps if s[0] == stage][-1]]] == [
        (4, 4),
        (6, 6),
        (2, 2),
    ]
    previews = [r.preview for r in responses if r.HasField("preview")]
    assert len(previews) == 6
    assert all(pixels(p.data).shape == (64, 64, 3) for p in previews)
    pictures = {r.picture_index: r.picture for r in responses if r.HasField("picture")}
    assert {i: p.seed for i, p in pictures.items()} == {0: 7, 1: 8}
    unary = await images.Generate(stream_request(n=2, decoder_steps=6).generate)
    assert [drawn(pictures[i].data) for i in (0, 1)] == [drawn(p.data) for p in unary.pictures]


async def test_a_cancelled_stream_frees_its_rows_at_the_next_step(images: Any, decoder: StageInfo) -> None:
    await until_idle(decoder)
    call = images.Stream(stream_request(n=2, decoder_steps=250))
    async for response in call:
        if (
            response.HasField("progress")
            and response.progress.stage == pb.STAGE_DECODER
            and response.progress.step >= 3
        ):
            break
    assert (await decoder.load()).rows_running > 0
    call.cancel()
    await until_idle(decoder)
    steps = (await decoder.load()).steps
    await asyncio.sleep(1)
    assert (
        await decoder.load()
    ).steps <= steps + 1  # the step that was under way may still end, however long it takes


async def test_a_cancelled_unary_call_frees_its_rows_too(images: Any, decoder: StageInfo) -> None:
    call = asyncio.ensure_future(images.Generate(stream_request(decoder_steps=250).generate))
    while not (await decoder.load()).rows_running:
        await asyncio.sleep(0.02)
    call.cancel()
    await until_idle(decoder)


async def test_an_expired_call_ends_and_frees_its_rows(
    images: Any, decoder: StageInfo, prior: StageInfo
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await images.Generate(stream_request(n=4, decoder_steps=250).generate, timeout=1.5)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_idle(prior)
    await until_idle(decoder)


async def test_callers_with_other_settings_share_batches_and_pictures_stay_the_same(
    images: Any, decoder: StageInfo
) -> None:
    requests = [
        stream_request(seed=1, decoder_steps=14, decoder_guidance=1.0).generate,
        stream_request(seed=2, decoder_steps=20, decoder_guidance=1.0).generate,
        stream_request(seed=3, decoder_steps=17, decoder_guidance=2.5).generate,
    ]
    alone = [drawn((await images.Generate(request)).pictures[0].data) for request in requests]
    before = (await decoder.load()).steps
    together = await asyncio.gather(*(images.Generate(request) for request in requests))
    steps = (await decoder.load()).steps - before
    assert [drawn(r.pictures[0].data) for r in together] == alone
    assert steps < sum(r.options.decoder_steps + r.options.upsampler_steps for r in requests)


async def test_a_slow_reader_that_leaves_frees_its_rows(images: Any, decoder: StageInfo) -> None:
    call = images.Stream(stream_request(n=3, decoder_steps=60, preview_interval=1))
    await call.read()
    await asyncio.sleep(1)
    call.cancel()
    await until_idle(decoder)
