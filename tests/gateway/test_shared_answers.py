"""Gateways that share a Redis answer a key once, whichever of them it comes to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from redis.asyncio import Redis as Client

from gateway.shared_answers import SharedAnswers, name_of
from services.wire.errors import InvalidInput, Overloaded, StageUnavailable
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, Redis, fronting, refusal, until
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

KEY = (("idempotency-key", "one"),)
ASKED = b"f" * 32


@contextlib.asynccontextmanager
async def two_gateways(
    stages: FakeStages, redis: Redis, **settings: Any
) -> AsyncIterator[tuple[Front, Front]]:
    async with (
        fronting(stages, shared_store=redis.url, http_port=0, **settings) as one,
        fronting(stages, shared_store=redis.url, http_port=0, **settings) as other,
    ):
        yield one, other


async def test_a_duplicate_at_another_gateway_waits_for_the_first_answer(redis: Redis) -> None:
    stages = FakeStages(delay=0.5)
    async with two_gateways(stages, redis) as (one, other):
        first = asyncio.ensure_future(one.images.Generate(FOX, metadata=KEY))
        await until(lambda: bool(stages.tasks))
        joined, begun = await asyncio.gather(other.images.Generate(FOX, metadata=KEY), first)
        again = await other.images.Generate(FOX, metadata=KEY)
        assert joined == begun == again
        assert len(stages.pictures) == 1
        owl = other.images.Generate(pb.GenerateRequest(prompt="an owl"), metadata=KEY)
        assert violations(await refusal(owl)) == ["idempotency-key"]


async def test_over_http_too(redis: Redis) -> None:
    stages = FakeStages()
    async with two_gateways(stages, redis) as fronts, httpx.AsyncClient(headers=dict(KEY)) as http:
        urls = [f"http://127.0.0.1:{front.gateway.http.port}/v1/images/generations" for front in fronts]
        body = {"prompt": "a fox", "response_format": "b64_json"}
        answers = [(await http.post(url, json=body)).json() for url in urls]
        assert answers[0] == answers[1]
        assert len(stages.pictures) == 1


async def test_failures_are_not_kept_and_one_that_waits_tries_itself(redis: Redis) -> None:
    stages = FakeStages(delay=0.3, failures=99)
    async with two_gateways(stages, redis) as (one, other):
        error = await refusal(one.images.Generate(FOX, metadata=KEY))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        stages.failures = 0
        assert (await other.images.Generate(FOX, metadata=KEY)).pictures


async def test_without_redis_work_goes_on_or_is_refused(redis: Redis) -> None:
    async with (
        two_gateways(FakeStages(), redis) as (open_one, _),
        two_gateways(FakeStages(), redis, shared_store_open_on_failure=False) as (closed, _),
    ):
        await asyncio.to_thread(redis.stop)
        assert (await open_one.images.Generate(FOX, metadata=KEY)).pictures
        error = await refusal(closed.images.Generate(FOX, metadata=KEY))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await closed.images.Generate(FOX)).pictures  # without a key nothing is asked of it


async def test_redis_that_dies_while_the_work_goes_on_loses_nothing(redis: Redis) -> None:
    answers = SharedAnswers(redis.url, 60, open_on_failure=False)

    async def last() -> bytes:
        await asyncio.to_thread(redis.stop)
        return b"done"

    assert await answers.once("tenant", "key", ASKED, last) == b"done"
    await answers.close()


async def test_the_work_of_a_gateway_that_died_is_done_by_another(redis: Redis) -> None:
    answers = SharedAnswers(redis.url, 60, open_on_failure=False)
    name = name_of("tenant", "key")
    async with Client.from_url(redis.url) as store:  # what such a gateway leaves behind
        await store.set(name, ASKED)
        await store.set(f"{name}/work", "a gateway", px=700)
        with pytest.raises(InvalidInput):
            await answers.once("tenant", "key", b"g" * 32, work)
        assert await answers.once("tenant", "key", ASKED, work) == b"done"
        assert not await store.exists(f"{name}/work")
    await answers.close()


async def work() -> bytes:
    return b"done"


async def test_many_at_once_are_one_piece_of_work(redis: Redis) -> None:
    stores = [SharedAnswers(redis.url, 60, open_on_failure=False) for _ in range(8)]
    done: list[None] = []

    async def slow() -> bytes:
        done.append(None)
        await asyncio.sleep(0.2)
        return b"done"

    found = await asyncio.gather(*(store.once("tenant", "key", ASKED, slow) for store in stores))
    assert found == [b"done"] * 8
    assert len(done) == 1
    with pytest.raises(InvalidInput):
        await stores[0].once("tenant", "key", b"g" * 32, work)

    async def failing() -> bytes:
        raise StageUnavailable("gone")

    with pytest.raises(StageUnavailable):
        await stores[0].once("tenant", "other", ASKED, failing)
    assert await stores[1].once("tenant", "other", ASKED, work) == b"done"
    for store in stores:
        await store.close()


async def test_a_store_that_is_not_there_is_told() -> None:
    answers = SharedAnswers("redis://127.0.0.1:1", 60, open_on_failure=False)
    with pytest.raises(Overloaded, match="cannot be told now"):
        await answers.once("tenant", "key", ASKED, work)


async def test_a_lock_is_given_back_though_the_look_after_it_fails(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = SharedAnswers(redis.url, 60, open_on_failure=False)
    looks = 0

    async def held(name: str) -> bytes:
        nonlocal looks
        looks += 1
        if looks == 2:  # the lock was just taken
            raise TimeoutError
        return b""

    with monkeypatch.context() as slow:
        slow.setattr(answers, "_held", held)
        with pytest.raises(Overloaded):
            await answers.once("tenant", "key", ASKED, work)
    async with asyncio.timeout(5):
        assert await answers.once("tenant", "key", ASKED, work) == b"done"
    await answers.close()


async def test_a_gateway_that_lost_its_claim_and_fails_leaves_anothers_answer(redis: Redis) -> None:
    slow = SharedAnswers(redis.url, 60, open_on_failure=False)
    other = SharedAnswers(redis.url, 60, open_on_failure=False)
    name = name_of("tenant", "key")

    async def fails() -> bytes:
        async with Client.from_url(redis.url) as store:
            await store.delete(f"{name}/work")  # its claim has run out
        assert await other.once("tenant", "key", ASKED, work) == b"done"
        raise StageUnavailable("gone")

    async def never() -> bytes:
        raise AssertionError("it was answered")

    with pytest.raises(StageUnavailable):
        await slow.once("tenant", "key", ASKED, fails)
    assert await other.once("tenant", "key", ASKED, never) == b"done"
    for answers in (slow, other):
        await answers.close()
