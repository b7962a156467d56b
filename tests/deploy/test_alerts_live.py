"""Every alert fires in a real Prometheus on the fault it is for, and none does while all is well.

The rules are the chart's, with their times divided: nobody waits six hours for a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import yaml

from deploy.local.ports import free_port
from deploy.monitoring.load import picture
from deploy.monitoring.observe import RULES, Prometheus, prometheus_running
from gateway.server import Gateway
from gateway.settings import Settings
from tests.deploy.cluster import application, cluster, wait_for
from tests.fakes.stages import FakeStages, load_of, serve_fake_stages
from tests.stack.conftest import quick
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's prometheus is not installed"),
]
STAGES = ("text_encoder", "image_encoder", "prior", "decoder")
SECONDS = {"m": 60, "h": 3600}


def rules_in_a_hurry(target: Path, times: int, *without: str) -> Path:
    """The chart's rules with every time divided.

    without: alerts on the absence of what this test does not run.
    """

    def divided(found: re.Match[str]) -> str:
        return f"{found['before']}{int(found['number']) * SECONDS[found['unit']] // times}s{found['after']}"

    text = re.sub(
        r"(?P<before>\[|for: |offset )(?P<number>\d+)(?P<unit>[mh])(?P<after>[\]\n)])",
        divided,
        RULES.read_text(),
    )
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in without]
    target.write_text(yaml.safe_dump(rules))
    return target


async def fires(prometheus: Prometheus, *alerts: str, seconds: float = 120) -> None:
    await asyncio.to_thread(wait_for, lambda: set(alerts) <= prometheus.firing(), seconds, f"{alerts} fire")


@contextlib.asynccontextmanager
async def repeating(call: Callable[[], Any], every: float) -> AsyncIterator[None]:
    """Make calls all the time, whatever becomes of them."""

    async def one() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call()

    async def all_the_time() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(one())
                await asyncio.sleep(every)

    task = asyncio.create_task(all_the_time())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def throughput(call: Callable[[], Any], count: int = 12) -> float:
    """Calls that are answered a second, if so many are made at once."""
    started = time.monotonic()
    await asyncio.gather(*(call() for _ in range(count)))
    return count / (time.monotonic() - started)


async def test_alerts_on_the_gateways_metrics(tmp_path: Path) -> None:
    rules = rules_in_a_hurry(tmp_path / "rules.yaml", 30, "UnclipStageAbsent")
    port = free_port()
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        addresses: dict[str, Any] = {f"{stage}_address": address for stage in STAGES}
        gateway = Gateway(
            Settings(port=0, metrics_port=port, look_interval=0.5, encoder_cache_size=0, **addresses)
        )
        await gateway.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            images: Any = image_service_pb2_grpc.ImageServiceStub(channel)
            ranking = pb.RankCaptionsRequest(picture=picture(), captions=["a fox", "an owl"])
            with prometheus_running({"gateway": f"127.0.0.1:{port}"}, rules) as prometheus:
                async with repeating(lambda: images.RankCaptions(ranking), 0.2):
                    await asyncio.sleep(20)
                    assert prometheus.firing() == set()

                    stages.delay = 41.0  # of pictures, none of which were asked for before
                    async with repeating(lambda: images.Generate(pb.GenerateRequest(prompt="a fox")), 1.0):
                        await fires(prometheus, "UnclipSlowBurnFast", "UnclipSlowBurnSlow", seconds=180)
                    assert not any(alert.startswith("UnclipFailures") for alert in prometheus.firing())

                    stages.versions["prior"] = "next"
                    await fires(prometheus, "UnclipModelMismatch")
                    stages.versions.clear()

                    stages.down.add("text_encoder")
                    await fires(
                        prometheus, "UnclipStageDown", "UnclipFailuresBurnFast", "UnclipFailuresBurnSlow"
                    )
                    stages.down.clear()
                    await asyncio.to_thread(
                        wait_for,
                        lambda: not {"UnclipStageDown", "UnclipFailuresBurnFast"} & prometheus.firing(),
                        180,
                        "they end",
                    )

                    stages.delay = 2.0
                    hurried = pb.GenerateRequest(prompt="a fox")
                    async with repeating(lambda: images.Generate(hurried, timeout=1.0), 0.2):
                        await fires(prometheus, "UnclipDeadlinesMissed")
                    stages.delay = 0.0
                    stages.load = load_of(backlog=1000)
                    async with repeating(lambda: images.Generate(hurried, timeout=5.0), 0.1):
                        await fires(prometheus, "UnclipRefusals")
                assert prometheus.broken_rules() == []
                await gateway.stop(1)
                await fires(prometheus, "UnclipGatewayAbsent")


def _small_engine(config: dict[str, Any]) -> None:
    application(config, "prior")["args"]["engine"] |= {"max_running": 2, "max_batch": 2}


async def test_alerts_on_the_stages_metrics(tmp_path: Path) -> None:
    rules = rules_in_a_hurry(tmp_path / "rules.yaml", 5, "UnclipGatewayAbsent", "UnclipStageAbsent")
    with cluster(("text_encoder", "prior"), _small_engine) as stages:
        async with serve_fake_stages() as address:
            addresses: dict[str, Any] = {"image_encoder_address": address, "decoder_address": address}
            gateway = Gateway(
                Settings(
                    port=0, text_encoder_address=stages.address, prior_address=stages.address, **addresses
                )
            )
            await gateway.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
                images: Any = image_service_pb2_grpc.ImageServiceStub(channel)
                targets = {"ray": stages.metrics}
                with prometheus_running(targets, rules) as prometheus:
                    await images.Generate(
                        pb.GenerateRequest(prompt="a fox", options=quick()), wait_for_ready=True
                    )
                    await asyncio.sleep(20)
                    assert prometheus.firing() == set()
                    request = pb.GenerateRequest(prompt="a fox", options=quick(prior_steps=250))
                    rate = await throughput(lambda: images.Generate(request)) + 0.3
                    async with repeating(lambda: images.Generate(request), 1 / rate):
                        await fires(prometheus, "UnclipQueueGrowing", seconds=240)
                    until = time.monotonic() + 300
                    while "UnclipReplicasRestarting" not in prometheus.firing():
                        assert time.monotonic() < until, prometheus.firing()
                        await asyncio.to_thread(stages.replace, "prior")
            await gateway.stop(1)
