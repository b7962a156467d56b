"""What the gateway tells Prometheus, scraped from a real gateway in front of stages that do nothing."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_port
from gateway.server import Gateway
from gateway.settings import SHIPPED, Settings
from tests.fakes.stages import FakeStages, serve_fake_stages
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

SECRET = "a prompt that nobody else may read"


@dataclass(frozen=True)
class Scraped:
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def of(self, name: str, **labels: str) -> float:
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)

    def __sub__(self, other: Scraped) -> Scraped:
        return Scraped({key: value - other.samples.get(key, 0.0) for key, value in self.samples.items()})


@dataclass(frozen=True)
class Measured:
    images: Any
    url: str
    stages: FakeStages

    async def scrape(self) -> Scraped:
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(self.url, timeout=10).read().decode())
        assert SECRET not in text
        return Scraped(
            {
                (s.name, tuple(sorted(s.labels.items()))): s.value
                for f in text_string_to_metric_families(text)
                for s in f.samples
            }
        )


@pytest.fixture(scope="module")
async def measured() -> AsyncIterator[Measured]:
    port, stages = free_port(), FakeStages()
    async with serve_fake_stages(stages) as address:
        addresses: dict[str, Any] = {
            f"{stage}_address": address for stage in ("text_encoder", "image_encoder", "prior", "decoder")
        }
        gateway = Gateway(Settings(port=0, metrics_port=port, **addresses))
        await gateway.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield Measured(
                image_service_pb2_grpc.ImageServiceStub(channel), f"http://127.0.0.1:{port}/metrics", stages
            )
        await gateway.stop(1)


async def test_requests_are_counted_timed_and_weighed(measured: Measured) -> None:
    before = await measured.scrape()
    for _ in range(2):
        await measured.images.Generate(pb.GenerateRequest(prompt=SECRET))
    changed = (await measured.scrape()) - before
    assert changed.of("unclip_requests_total", flow="generate", model=SHIPPED, status="ok") == 2
    assert changed.of("unclip_request_seconds_count", flow="generate", model=SHIPPED) == 2
    assert changed.of("unclip_stage_seconds_count", model=SHIPPED, stage="prior") == 2
    assert changed.of("unclip_received_bytes_total", flow="generate") >= 2 * len(SECRET)
    assert changed.of("unclip_sent_bytes_total", flow="generate") > 100
    assert changed.of("unclip_text_cache_total", outcome="hit") == 1
    assert changed.of("unclip_text_cache_total", outcome="miss") == 1
    assert (await measured.scrape()).of("unclip_requests_in_flight", flow="generate") == 0


async def test_streams_count_as_what_they_carry(measured: Measured) -> None:
    before = await measured.scrape()
    async for _ in measured.images.Stream(pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox"))):
        pass
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in measured.images.Stream(pb.StreamRequest()):
            pass
    changed = (await measured.scrape()) - before
    assert changed.of("unclip_requests_total", flow="generate", model=SHIPPED, status="ok") == 1
    assert changed.of("unclip_requests_total", flow="none", model="none", status="invalid_argument") == 1


async def test_refusals_and_the_impatient_are_told_apart(measured: Measured) -> None:
    before = await measured.scrape()
    with pytest.raises(grpc.aio.AioRpcError):
        await measured.images.RankCaptions(pb.RankCaptionsRequest())
    measured.stages.delay = 5.0
    leaving = measured.images.Generate(pb.GenerateRequest(prompt="a fox"))
    await asyncio.sleep(0.3)
    assert (await measured.scrape()).of("unclip_requests_in_flight", flow="generate") == 1
    leaving.cancel()
    with pytest.raises(grpc.aio.AioRpcError):
        await measured.images.Generate(pb.GenerateRequest(prompt="a fox"), timeout=0.3)
    measured.stages.delay = 0.0
    await asyncio.sleep(0.3)
    changed = (await measured.scrape()) - before
    assert (
        changed.of("unclip_requests_total", flow="rank_captions", model=SHIPPED, status="invalid_argument")
        == 1
    )
    assert changed.of("unclip_requests_total", flow="generate", model=SHIPPED, status="cancelled") == 1
    assert (
        changed.of("unclip_requests_total", flow="generate", model=SHIPPED, status="deadline_exceeded") == 1
    )
    assert changed.of("unclip_cancellations_total", flow="generate") == 1
    assert changed.of("unclip_deadline_misses_total", flow="generate") == 1
    assert changed.of("unclip_refusals_total", reason="invalid_argument") == 1


async def test_stages_and_model_are_shown(measured: Measured) -> None:
    for _ in range(100):
        scraped = await measured.scrape()
        if scraped.of("unclip_gateway_model_info", model=SHIPPED, version="0"):
            break
        await asyncio.sleep(0.05)
    assert scraped.of("unclip_gateway_model_info", model=SHIPPED, version="0") == 1
    assert [
        scraped.of("unclip_stage_up", model=SHIPPED, stage=s)
        for s in ("text_encoder", "image_encoder", "prior", "decoder")
    ] == [1] * 4
    assert scraped.of("unclip_model_mismatch", model=SHIPPED) == 0


async def test_a_call_whose_stage_was_gone_is_made_again(measured: Measured) -> None:
    before = await measured.scrape()
    measured.stages.failures = 1
    await measured.images.Generate(pb.GenerateRequest(prompt="a fox"))
    assert ((await measured.scrape()) - before).of("unclip_stage_retries_total", stage="prior") == 1
    measured.stages.failures = 3
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await measured.images.Generate(pb.GenerateRequest(prompt="a fox"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
