"""Slow callers, slow stages, work that outlives its caller: all of it ends, and gives back what it held."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message

from gateway import interceptors
from gateway.threads import in_thread
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, fronting, refusal, until
from unclip.v1 import image_service_pb2 as pb


def is_idle(front: Front) -> bool:
    admission = front.gateway.admission
    return not admission._requests and not admission._bytes


async def test_a_request_that_does_not_arrive_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "READ_SECONDS", 0.3)
    async with fronting(FakeStages(), max_requests=1) as front:
        embed: Any = front.channel.stream_unary(
            "/unclip.v1.ImageService/EmbedText", request_serializer=Message.SerializeToString
        )
        silent: Any = embed()
        await until(lambda: not is_idle(front))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await silent
        assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await front.images.Generate(FOX)).pictures


async def test_few_messages_are_received_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "READ_SECONDS", 0.5)
    async with fronting(FakeStages()) as front:
        embed: Any = front.channel.stream_unary(
            "/unclip.v1.ImageService/EmbedText", request_serializer=Message.SerializeToString
        )
        silent: list[Any] = [embed() for _ in range(20)]
        await until(lambda: front.gateway.admission._requests == 20)
        assert (await front.images.Generate(FOX)).pictures  # its turn comes
        for call in silent:
            call.cancel()


async def test_a_request_takes_no_longer_than_the_service_allows() -> None:
    async with fronting(FakeStages(delay=30), request_timeout=0.5) as front:
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        stream = front.images.Stream(pb.StreamRequest(generate=FOX))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _ in stream:
                pass
        assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: is_idle(front))


async def test_whatever_becomes_of_a_call_it_gives_everything_back() -> None:
    stages = FakeStages()
    async with fronting(stages) as front:
        await front.images.Generate(FOX)
        await refusal(front.images.Generate(pb.GenerateRequest()))
        [_ async for _ in front.images.Stream(pb.StreamRequest(generate=FOX))]
        stages.delay = 30
        await refusal(front.images.Generate(FOX, timeout=0.2))
        call = front.images.Generate(FOX)
        await until(lambda: stages.tasks[-1:] != [])
        call.cancel()
        await until(lambda: is_idle(front))


async def test_a_cancelled_caller_stays_in_the_books_until_its_thread_is_done() -> None:
    begun = threading.Event()
    gate = threading.Event()

    def work() -> None:
        begun.set()
        gate.wait()

    caller = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    await asyncio.sleep(0.05)
    assert not caller.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_stage_that_sleeps_is_waited_for() -> None:
    """Its first replica takes longer to start than another stage may be silent."""
    stages = FakeStages(delay=1.0)
    async with fronting(stages, stage_silence_seconds=0.2, sleeping_stages="prior") as front:
        assert (await front.images.Generate(FOX)).pictures
        assert len(stages.tasks) == 2  # the prior and the decoder, once


async def test_a_slow_reader_holds_up_its_own_pictures_only() -> None:
    options = pb.SamplingOptions(preview_interval=1, decoder_steps=200)
    request = pb.GenerateRequest(prompt="a fox", options=options)
    async with fronting(FakeStages()) as front:
        slow = front.images.Stream(pb.StreamRequest(generate=request))
        await slow.read()
        assert (await front.images.Generate(FOX)).pictures
        previews = 0
        while (response := await slow.read()) is not grpc.aio.EOF:
            previews += response.HasField("preview")
        assert previews == 199
