"""Slow callers, slow stages, work that outlives its caller: all of it ends, and gives back what it held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import Message

from gateway import reading
from gateway.events import Drawn, Event, Progressed
from gateway.flows.fan_out import fan_out
from gateway.settings import SHIPPED
from gateway.threads import in_thread
from services.wire.errors import DeadlineMissed, Overloaded
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, fronting, refusal, until
from tests.statuses import retry_delay
from unclip.v1 import image_service_pb2 as pb


def is_idle(front: Front) -> bool:
    places = front.gateway.models.places
    return not places._requests and not places._bytes


async def test_a_request_that_does_not_arrive_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_SECONDS", 0.3)
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


async def test_callers_who_say_nothing_give_up_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CONTESTED_SECONDS", 2.0)
    async with fronting(FakeStages()) as front:
        embed: Any = front.channel.stream_unary(
            "/unclip.v1.ImageService/EmbedText", request_serializer=Message.SerializeToString
        )
        silent: list[Any] = [embed() for _ in range(20)]
        readers = front.gateway.models.settings.readers
        await until(lambda: front.gateway.models.places._requests > readers)  # so that all are taken
        assert (await front.images.Generate(FOX, timeout=10)).pictures  # long before READ_SECONDS
        endings = [asyncio.ensure_future(refusal(call)) for call in silent]
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        error = done.pop().result()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delay(error)
        for call in (*silent, *endings):
            call.cancel()


async def test_a_turn_to_be_received_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_SECONDS", 0.2)
    gate = reading.Reading(1)

    async def silence() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    holders = [asyncio.ensure_future(gate.first(silence())) for _ in range(3)]
    endings = await asyncio.gather(*holders, return_exceptions=True)
    assert isinstance(endings[0], DeadlineMissed)
    assert isinstance(endings[2], Overloaded | DeadlineMissed)

    async def message() -> AsyncIterator[bytes]:
        yield b"a fox"

    assert await gate.first(message()) == b"a fox"


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
    async with fronting(stages, stage_silence_seconds=0.2, sleeping_stages=f"{SHIPPED}/prior") as front:
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


async def test_what_was_admitted_is_done_and_told_though_nobody_reads() -> None:
    """Else its time would stay booked, and others would be refused for it."""
    told: list[Event] = []

    async def draw() -> AsyncGenerator[Event, None]:
        for step in range(200):
            yield Progressed("decoder", step, 200)
        yield Drawn(np.zeros((4, 4, 3), np.uint8))

    drawings = [(seed, draw()) for seed in range(10)]
    events = fan_out(drawings, [], lambda _, event: told.append(event))
    await anext(events)
    await until(lambda: sum(isinstance(event, Drawn) for event in told) == 10)
    assert sum([isinstance(event, Drawn) async for _, event in events]) == 10
