"""Calls with the same idempotency key are answered once, and never with another's answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from gateway import replays
from gateway.tokens import new_token, write_tokens
from services.wire.errors import StageUnavailable
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, fronting, refusal, until
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

KEY = (("idempotency-key", "one"),)


async def test_a_call_that_is_made_again_joins_the_first_or_gets_its_answer() -> None:
    stages = FakeStages(delay=0.5)
    async with fronting(stages) as front:
        first = asyncio.ensure_future(front.images.Generate(FOX, metadata=KEY))
        await until(lambda: bool(stages.tasks))
        joined, begun = await asyncio.gather(front.images.Generate(FOX, metadata=KEY), first)
        again = await front.images.Generate(FOX, metadata=KEY)
        assert joined == begun == again
        assert len(stages.pictures) == 1
        other = await front.images.Generate(FOX, metadata=(("idempotency-key", "two"),))
        assert other.pictures[0].seed != begun.pictures[0].seed


async def test_a_key_is_for_one_request() -> None:
    async with fronting(FakeStages()) as front:
        await front.images.Generate(FOX, metadata=KEY)
        owl = front.images.Generate(pb.GenerateRequest(prompt="an owl"), metadata=KEY)
        assert violations(await refusal(owl)) == ["idempotency-key"]
        odd = front.images.Generate(FOX, metadata=(("idempotency-key", "x" * 300),))
        assert violations(await refusal(odd)) == ["idempotency-key"]


async def test_failures_are_not_kept() -> None:
    stages = FakeStages(failures=99)
    async with fronting(stages) as front:
        error = await refusal(front.images.Generate(FOX, metadata=KEY))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        stages.failures = 0
        assert (await front.images.Generate(FOX, metadata=KEY)).pictures


async def test_a_failure_after_everybody_has_left_is_not_kept() -> None:
    kept = replays.Replays()
    gate = asyncio.Event()

    async def fails() -> bytes:
        await gate.wait()
        raise StageUnavailable("gone")

    async def works() -> bytes:
        return b"done"

    leaving = asyncio.ensure_future(kept.answer("key", "tenant", b"f", fails))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.set()
    await asyncio.sleep(0.01)
    assert await kept.answer("key", "tenant", b"f", works) == b"done"


async def test_a_caller_that_leaves_may_come_back_for_its_answer() -> None:
    stages = FakeStages(delay=0.5)
    async with fronting(stages) as front:
        leaving = front.images.Generate(FOX, metadata=KEY)
        await until(lambda: bool(stages.tasks))
        leaving.cancel()
        assert (await front.images.Generate(FOX, metadata=KEY)).pictures
        assert len(stages.pictures) == 1


async def test_keys_are_a_tenants_own_and_scopes_come_first(tmp_path: Path) -> None:
    wanted = {"one": ("generate",), "two": ("generate",), "three": ("embed",)}
    made = {name: new_token(name, name, scopes, None) for name, scopes in wanted.items()}  # type: ignore[arg-type]
    write_tokens(tmp_path / "tokens.json", [token for token, _ in made.values()])
    stages = FakeStages()
    async with fronting(stages, tokens=str(tmp_path / "tokens.json")) as front:
        bearers = {name: (("authorization", f"Bearer {text}"), *KEY) for name, (_, text) in made.items()}
        answers = [await front.images.Generate(FOX, metadata=bearers[name]) for name in ("one", "two")]
        assert answers[0] != answers[1]
        assert len(stages.pictures) == 2
        refused = await refusal(front.images.Generate(FOX, metadata=bearers["three"]))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
