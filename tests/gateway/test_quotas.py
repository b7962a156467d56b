"""Quotas: what a tenant has used up is refused with the true delay, and nobody else's is touched."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from gateway.quota import Quota
from gateway.quotas import Cost, Quotas
from gateway.settings import SHIPPED, Settings
from gateway.tokens import new_token, write_tokens
from services.wire.errors import InvalidInput, Overloaded, StageUnavailable
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Redis, fronting, refusal, until
from tests.statuses import retry_delay, violations
from unclip.v1 import image_service_pb2 as pb

THREE = {"*": {"pictures": 3}}


def books(store: str = "memory", **more: Any) -> Quotas:
    quotas = {"acme": Quota(pictures=3, megapixel_steps=10), "*": Quota(pictures=1)}
    return Quotas(quotas, store, **{"shadow": False, "open_on_failure": True, **more})


async def spend(quotas: Quotas, tenant: str, pictures: int, steps: int = 1) -> list[tuple[str, int]]:
    async with quotas.spending(tenant, Cost(pictures, steps)) as spending:
        return [(one.name, one.left) for one in spending.left]


async def fail(quotas: Quotas, used: bool) -> None:
    """A request that breaks, after it has got something, or before."""
    async with quotas.spending("acme", Cost(1, 1)) as spending:
        spending.used = used
        raise StageUnavailable("gone")


async def test_each_bound_of_a_tenant_counts_and_nobody_elses() -> None:
    quotas = books()
    assert await spend(quotas, "acme", 2, 4) == [("pictures", 1), ("megapixel_steps", 6)]
    with pytest.raises(Overloaded, match="3 pictures a minute") as refused:
        await spend(quotas, "acme", 2)
    assert 1 <= refused.value.retry_after <= 60
    with pytest.raises(Overloaded, match="10 megapixel-steps a minute"):
        await spend(quotas, "acme", 1, 7)
    assert await spend(quotas, "acme", 1, 6) == [("pictures", 0), ("megapixel_steps", 0)]
    assert await spend(quotas, "other", 1) == [("pictures", 0)]
    with pytest.raises(InvalidInput, match="asks for 4 pictures; 3 a minute are allowed"):
        await spend(quotas, "acme", 4)


async def test_who_uses_a_minute_at_once_lags_as_if_it_were_spread() -> None:
    quotas = Quotas({"acme": Quota(pictures=60, megapixel_steps=60)}, shadow=False, open_on_failure=True)

    async def lag(tenant: str, pictures: int, steps: int) -> float:
        async with quotas.spending(tenant, Cost(pictures, steps)) as spending:
            return spending.lag

    assert await lag("acme", 2, 5) == 0.0
    assert await lag("acme", 1, 1) == pytest.approx(5.0, abs=0.5)  # the megapixel-steps are the tighter bound
    assert await lag("acme", 1, 1) == pytest.approx(6.0, abs=0.5)
    assert await lag("other", 9, 9) == 0.0  # it has no quota
    with contextlib.suppress(StageUnavailable):
        await fail(quotas, used=False)
    assert await lag("acme", 1, 1) == pytest.approx(7.0, abs=0.5)  # what got nothing is no work


async def test_a_tenant_within_every_bound_does_not_lag_more_and_more() -> None:
    quotas = Quotas({"acme": Quota(pictures=60, megapixel_steps=600)}, shadow=False, open_on_failure=True)
    for pictures, steps in (*[(1, 1)] * 30, (1, 300)):  # together half a minute of each bound
        async with quotas.spending("acme", Cost(pictures, steps)):
            pass
    async with quotas.spending("acme", Cost(1, 1)) as spending:
        assert spending.lag == pytest.approx(33.0, abs=0.5)  # the larger of the two, not their sum


async def test_what_got_nothing_is_given_back_and_what_got_something_is_not() -> None:
    quotas = books()
    for used, left in ((False, 2), (True, 0)):
        with pytest.raises(StageUnavailable):
            await fail(quotas, used)
        assert (await spend(quotas, "acme", 1))[0] == ("pictures", left)
    with contextlib.suppress(asyncio.CancelledError):
        async with quotas.spending("other", Cost(1, 1)):
            raise asyncio.CancelledError
    with pytest.raises(Overloaded):  # who leaves has had the work
        await spend(quotas, "other", 1)


async def test_requests_at_a_time_are_bounded_and_come_back() -> None:
    quotas = Quotas({"*": Quota(in_flight=1)}, shadow=False, open_on_failure=True)
    async with quotas.spending("a", Cost(1, 1)):
        with pytest.raises(Overloaded, match="1 requests at a time"):
            await spend(quotas, "a", 1)
        assert await spend(quotas, "b", 1) == []
    assert await spend(quotas, "a", 1) == []
    assert not quotas._in_flight


async def test_a_shadow_counts_and_refuses_nobody() -> None:
    labels = {"bound": "pictures", "outcome": "shadow"}
    before = REGISTRY.get_sample_value("unclip_quota_refusals_total", labels) or 0
    quotas = books(shadow=True)
    for _ in range(3):
        await spend(quotas, "acme", 2)
    assert REGISTRY.get_sample_value("unclip_quota_refusals_total", labels) == before + 2


async def test_callers_are_told_what_is_left_and_when_to_come_again() -> None:
    stages = FakeStages()
    async with fronting(stages, quotas=THREE) as front:
        two = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=2))
        call = front.images.Generate(two)
        await call
        trailers = dict(await call.trailing_metadata())
        assert trailers["x-ratelimit-limit-pictures"] == "3"
        assert trailers["x-ratelimit-remaining-pictures"] == "1"
        drawn = len(stages.tasks)
        error = await refusal(front.images.Generate(two))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 1 <= (retry_delay(error) or 0) <= 60
        assert len(stages.tasks) == drawn
        assert (await front.images.Generate(FOX)).pictures
        four = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=4))
        assert violations(await refusal(front.images.Generate(four))) == ["options"]


async def test_http_callers_too() -> None:
    async with fronting(FakeStages(), quotas=THREE, http_port=0) as front:
        url = f"http://127.0.0.1:{front.gateway.http.port}/v1/images/generations"
        async with httpx.AsyncClient() as http:
            answer = await http.post(url, json={"prompt": "a fox", "n": 3})
            assert answer.headers["x-ratelimit-remaining-pictures"] == "0"
            assert answer.headers["x-ratelimit-reset-pictures"].endswith("s")
            refused = await http.post(url, json={"prompt": "a fox"})
            assert refused.status_code == 429
            assert 1 <= float(refused.headers["retry-after"]) <= 60


async def test_a_tenant_that_asks_for_too_much_is_refused_and_another_is_not(tmp_path: Path) -> None:
    made = [new_token(name, name, ("generate",), None) for name in ("greedy", "modest")]
    write_tokens(tmp_path / "tokens.json", [token for token, _ in made])
    greedy, modest = ((("authorization", f"Bearer {text}"),) for _, text in made)
    settings = {"quotas": {"greedy": {"pictures": 2}}, "tokens": str(tmp_path / "tokens.json")}
    async with fronting(FakeStages(), **settings) as front:
        calls = [front.images.Generate(FOX, metadata=greedy) for _ in range(20)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, pb.GenerateResponse) for one in found) == 2
        for _ in range(5):
            assert (await front.images.Generate(FOX, metadata=modest)).pictures


async def test_what_fails_before_its_first_picture_costs_nothing() -> None:
    stages = FakeStages(failures=99)
    async with fronting(stages, quotas=THREE) as front:
        assert (await refusal(front.images.Generate(FOX))).code() is grpc.StatusCode.UNAVAILABLE
        stages.failures = 0
        three = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=3))
        assert len((await front.images.Generate(three)).pictures) == 3


async def test_a_tenants_places_come_back_when_a_caller_leaves() -> None:
    stages = FakeStages(delay=30)
    async with fronting(stages, quotas={"*": {"in_flight": 1}}) as front:
        held: Any = front.images.Generate(FOX)
        await until(lambda: bool(stages.tasks))
        assert (await refusal(front.images.Generate(FOX))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held.cancel()
        stages.delay = 0
        await until(lambda: not front.gateway.models._quotas._in_flight)
        assert (await front.images.Generate(FOX)).pictures


async def test_the_log_tells_what_a_request_cost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway.calls")
    async with fronting(FakeStages()) as front:
        options = pb.SamplingOptions(n=2, decoder_steps=10, upsampler_steps=4)
        await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=options))
    (record,) = [record for record in caplog.records if record.name == "gateway.calls"]
    found = vars(record)
    assert (found["flow"], found["model"], found["status"], found["pictures"]) == (
        "generate",
        SHIPPED,
        "ok",
        2,
    )
    assert found["megapixel_steps"] == 1  # 2 x (10 x 64 px squared + 4 x 256 px squared), rounded up


@pytest.mark.parametrize("quota", [{"pictures": 0}, {"picture": 1}, {"in_flight": -1}])
def test_a_quota_that_is_wrong_is_refused_at_start(quota: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"quotas": {"a": quota}})


async def test_gateways_share_what_is_counted_in_redis(redis: Redis) -> None:
    url = redis.url
    one, other, closed = books(url), books(url), books(url, open_on_failure=False)
    assert (await spend(one, "acme", 2))[0] == ("pictures", 1)
    assert (await spend(other, "acme", 1))[0] == ("pictures", 0)
    with pytest.raises(Overloaded) as refused:
        await spend(one, "acme", 1)
    assert 1 <= refused.value.retry_after <= 60
    await asyncio.to_thread(redis.stop)
    assert (await spend(one, "acme", 1))[0] == ("pictures", 3)  # nobody knows, and it is open
    with pytest.raises(Overloaded, match="cannot be told now"):
        await spend(closed, "acme", 1)
    for quotas in (one, other, closed):
        await quotas.close()
