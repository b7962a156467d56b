"""Stages on real local Ray clusters.

Two clusters behind one gateway, scaling out, in and to zero, rollouts under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import yaml
from PIL import Image

from gateway.server import Gateway
from gateway.settings import SHIPPED, Settings
from services.bundles.bundle import ROOT, Bundle, write_manifest
from services.wire.stages import STAGES
from tests.deploy.cluster import Cluster, application, cluster, wait_for
from tests.deploy.conftest import VALUES, Helm
from tests.pictures import drawn
from tests.stack.conftest import OPTIONS, png_of, quick
from unclip.internal.v1 import stage_service_pb2, stage_service_pb2_grpc
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1500)]
RANKING = pb.RankCaptionsRequest(picture=png_of(Image.new("RGB", (64, 64), "red")), captions=["red", "blue"])


DECODERS = 2
LOGS = {"encoding": "JSON", "log_level": "INFO", "enable_access_log": False}  # as in the chart


@dataclass(frozen=True)
class Deployed:
    images: Any
    texts: Cluster  # text encoder and prior
    pictures: Cluster  # image encoder and decoder


def logged(request_id: str) -> list[dict[str, Any]]:
    """The lines of all stages' logs about a request."""
    files = Path("/tmp/ray").glob("session_2*/logs/serve/replica_*.log")
    return [
        json.loads(line) for file in files for line in file.read_text().splitlines() if request_id in line
    ]


def replica(request_id: str, stage: str) -> Callable[[], set[str]]:
    """Which replicas of a stage have logged a request, when it is asked."""

    def found() -> set[str]:
        files = Path("/tmp/ray").glob(f"session_2*/logs/serve/replica_{stage}_*.log")
        return {file.name for file in files if request_id in file.read_text()}

    return found


def _quick_to_scale(config: dict[str, Any]) -> None:
    config["logging_config"] = LOGS
    prior = application(config, "prior")
    prior["args"]["engine"]["max_running"] = 8
    prior["deployments"][0]["autoscaling_config"] |= {
        "max_replicas": 3,
        "upscale_delay_s": 1,
        "downscale_delay_s": 5,
    }


def _may_sleep(config: dict[str, Any]) -> None:
    config["logging_config"] = LOGS
    decoder = application(config, "decoder")["deployments"][0]["autoscaling_config"]
    decoder |= {"min_replicas": DECODERS, "max_replicas": DECODERS}
    scaling = application(config, "image_encoder")["deployments"][0]["autoscaling_config"]
    scaling |= {"min_replicas": 0, "downscale_delay_s": 5, "downscale_to_zero_delay_s": 5}


@pytest.fixture(scope="module")
async def deployed() -> AsyncIterator[Deployed]:
    """Two clusters behind one gateway."""
    with (
        cluster(("text_encoder", "prior"), _quick_to_scale) as texts,
        cluster(("image_encoder", "decoder"), _may_sleep) as pictures,
    ):
        settings = Settings(
            port=0,
            look_interval=0.5,
            encoder_cache_size=0,
            text_encoder_address=texts.address,
            prior_address=texts.address,
            image_encoder_address=pictures.address,
            decoder_address=pictures.address,
            sleeping_stages=(f"{SHIPPED}/image_encoder",),
        )
        gateway = Gateway(settings)
        await gateway.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=OPTIONS) as channel:
            yield Deployed(image_service_pb2_grpc.ImageServiceStub(channel), texts, pictures)
        await gateway.stop(1)


@dataclass
class Load:
    """Requests for pictures, one after another, until it is stopped; any that fails fails the test."""

    images: Any
    options: pb.SamplingOptions
    versions: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self, callers: int) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call(stop))
            yield
            stop.set()

    async def _call(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            response = await self.images.Generate(
                pb.GenerateRequest(prompt="a fox", size=64, options=self.options), wait_for_ready=True
            )
            self.versions.append(response.pictures[0].model_version)
            await self.images.RankCaptions(RANKING)


async def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    await asyncio.to_thread(wait_for, condition, seconds, what)


async def test_one_gateway_works_with_several_clusters(deployed: Deployed) -> None:
    request = pb.GenerateRequest(
        prompt="a fox nobody reads of", size=64, options=quick(), request_id=uuid.uuid4().hex
    )
    made = await deployed.images.Generate(request, wait_for_ready=True)
    assert len(made.pictures) == 1
    await asyncio.to_thread(
        wait_for, lambda: len(logged(request.request_id)) == 3, 30, "three stages log the request"
    )
    assert {line["message"] for line in logged(request.request_id)} == {
        "EncodeText ok",
        "SamplePrior ok",
        "SampleDecoder ok",
    }
    assert request.prompt not in str(logged(request.request_id))
    assert len((await deployed.images.RankCaptions(RANKING)).captions) == 2


async def test_a_picture_has_the_same_bits_from_every_replica(deployed: Deployed) -> None:
    options = quick(seed=11, decoder_steps=3, decoder_guidance=2.5)
    requests = [
        pb.GenerateRequest(
            prompt="a fox on a sandy beach", size=64, options=options, request_id=uuid.uuid4().hex
        )
        for _ in range(12)
    ]
    made = await asyncio.gather(*(deployed.images.Generate(r, wait_for_ready=True) for r in requests))
    assert len({drawn(response.pictures[0].data) for response in made}) == 1
    drew = [replica(request.request_id, "decoder") for request in requests]
    await until(lambda: len(set().union(*(r() for r in drew))) == DECODERS, 30, "both have drawn")


async def test_the_stage_that_is_stressed_scales_out_and_back_in_alone(deployed: Deployed) -> None:
    load = Load(deployed.images, quick(prior_steps=100, prior_candidates=4, decoder_steps=1))
    async with load.running(callers=8):
        await until(lambda: deployed.texts.running("prior") >= 2, 240, "the prior scales out")
        assert deployed.texts.running("text_encoder") == 1
        assert deployed.pictures.running("decoder") == DECODERS
    await until(lambda: deployed.texts.running("prior") == 1, 240, "the prior scales in")
    assert load.versions


async def test_a_stage_sleeps_until_it_is_needed(deployed: Deployed) -> None:
    await until(
        lambda: deployed.pictures.running("image_encoder") == 0, 240, "the image encoder scales to zero"
    )
    assert len((await deployed.images.RankCaptions(RANKING, timeout=300)).captions) == 2
    await until(
        lambda: deployed.pictures.running("image_encoder") == 0,
        240,
        "the image encoder sleeps again, though its health is watched",
    )


def _serve_bundle(config: dict[str, Any], bundle: Path) -> dict[str, Any]:
    changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config))
    for app in changed["applications"]:
        app["args"].get("clip", app["args"])["bundle"] = str(bundle)
    return changed


async def test_rollouts_under_load_fail_no_request(deployed: Deployed, tmp_path: Path) -> None:
    bundle = tmp_path / "models"
    shutil.copytree(ROOT / "models", bundle, ignore=shutil.ignore_patterns("docs"))
    old = Bundle("models", "clip").manifest
    write_manifest(bundle, old.name, "next", old.licences)
    load = Load(deployed.images, quick(decoder_steps=1))
    async with load.running(callers=2):
        changed = _serve_bundle(deployed.texts.config, ROOT / "models")
        application(changed, "prior")["args"]["candidates"] = 1
        await asyncio.to_thread(deployed.texts.deploy, changed)
        for each in (deployed.texts, deployed.pictures):
            await asyncio.to_thread(each.deploy, _serve_bundle(each.config, bundle))
        await until(lambda: "next" in load.versions, 120, "the new version is served")
    assert set(load.versions) == {old.version, "next"}


def _merged(configs: list[dict[str, Any]], base: dict[str, Any]) -> dict[str, Any]:
    """Rendered configs of single stages as one, on a cluster's own ports."""
    return {**base, "applications": [app for config in configs for app in config["applications"]]}


async def test_every_rendered_serve_config_is_deployed_and_answers(helm: Helm) -> None:
    with cluster(STAGES) as one:
        for values in VALUES:
            objects = helm.objects(values, "--set", f"bundle.path={ROOT / 'models'}")
            rendered = [
                yaml.safe_load(o["spec"]["serveConfigV2"]) for o in objects if o["kind"] == "RayService"
            ]
            merged = _merged(rendered, one.config)
            for app in merged["applications"]:
                # One replica of each is enough to see that it starts, and all that this machine has memory
                # for.
                scaling = app["deployments"][0]["autoscaling_config"]
                scaling["min_replicas"] = min(scaling["min_replicas"], 1)
            await asyncio.to_thread(one.deploy, merged)
            async with grpc.aio.insecure_channel(one.address) as channel:
                stub: Any = stage_service_pb2_grpc.StageServiceStub(channel)
                for stage in STAGES:
                    # The first call wakes a stage that may sleep.
                    described = await stub.Describe(
                        stage_service_pb2.DescribeRequest(), metadata=(("application", stage),), timeout=300
                    )
                    assert described.model_name == "unclip-emoji", (values, stage)
