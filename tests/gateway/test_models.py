"""Two models side by side behind one gateway: each request goes to the one it names."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from gateway.environment import load_settings
from gateway.settings import Settings
from tests.fakes.stages import FakeStages, load_of, serve_fake_stages
from tests.gateway.conftest import FOX, Front, fronting, png_of, refusal, until
from tests.gateway.test_cli import unclip
from tests.http.test_openai_client import noise
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

OWN = ("prior", "decoder")


@dataclass(frozen=True)
class Pair:
    """A gateway with the models "first" and "second", whose encoders are the first's."""

    front: Front
    first: FakeStages
    second: FakeStages


@contextlib.asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[Pair]:
    first = FakeStages(model_name="first")
    second = FakeStages(model_name="second", versions=dict.fromkeys(OWN, "7"))
    async with serve_fake_stages(second) as address:
        models = {"first": {}, "second": {stage: f"second-{stage}@{address}" for stage in OWN}}
        async with fronting(first, models=models, **settings) as front:
            yield Pair(front, first, second)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_request_is_drawn_by_the_model_it_names() -> None:
    async with pair() as both:
        images = both.front.images
        for name, drawn_by in (("", "first"), ("first", "first"), ("second", "second")):
            before = len(both.first.pictures), len(both.second.pictures)
            answer = await images.Generate(pb.GenerateRequest(prompt="a fox", model=name))
            assert answer.pictures[0].model == drawn_by
            grown = len(both.first.pictures) - before[0], len(both.second.pictures) - before[1]
            assert grown == ((1, 0) if drawn_by == "first" else (0, 1))
        request = pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox", model="second"))
        told = [response async for response in images.Stream(request)]
        assert told[-1].picture.model == "second"
        assert told[-1].picture.model_version == "7"


async def test_a_model_that_is_not_served_is_an_error_of_the_field_that_names_those_that_are() -> None:
    async with pair() as both:
        images = both.front.images
        calls = (
            images.Generate(pb.GenerateRequest(prompt="a fox", model="third")),
            images.EmbedText(pb.EmbedTextRequest(text="a fox", model="third")),
            images.GetModel(pb.GetModelRequest(model="third")),
        )
        for call in calls:
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert violations(error) == ["model"]
            assert "'third'; it must be one of first, second, or empty" in str(error.details())
        assert not both.first.texts


async def test_shared_encoders_encode_a_text_once_for_both() -> None:
    async with pair() as both:
        for name in ("first", "second"):
            await both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model=name))
        assert both.first.texts == ["a fox", ""]
        assert not both.second.texts


async def test_a_shared_encoder_of_another_version_is_no_mismatch() -> None:
    async with pair(look_interval=0.05) as both:
        await both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model="second"))
        await asyncio.sleep(0.2)
        assert sample("unclip_model_mismatch", model="second") == 0
        assert sample("unclip_gateway_model_info", model="second", version="7") == 1
        both.second.versions["prior"] = "8"
        await until(lambda: sample("unclip_model_mismatch", model="second") == 1)
        assert sample("unclip_model_mismatch", model="first") == 0


async def test_an_encoder_that_both_share_sleeps_for_both_and_texts_stay_in_the_cache() -> None:
    async with pair(sleeping_stages="first/text_encoder", look_interval=0.05) as both:
        for _ in range(2):
            for name in ("first", "second"):
                await both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model=name))
            await asyncio.sleep(0.15)
        assert both.first.texts == ["a fox", ""]
        assert "text_encoder" not in both.first.described


async def test_a_prior_of_another_bundle_is_a_mismatch() -> None:
    async with pair(look_interval=0.05) as both:
        both.second.model_names["prior"] = "third"
        await until(lambda: sample("unclip_model_mismatch", model="second") == 1)


async def test_models_are_listed_also_those_that_are_not_there() -> None:
    async with pair() as both:
        both.second.down.update(OWN)
        listed = await both.front.images.ListModels(pb.ListModelsRequest())
        assert [model.name for model in listed.models] == ["first"]
        assert list(listed.unavailable) == ["second"]
        assert listed.default_model == "first"
        assert (await both.front.images.Generate(FOX)).pictures
        error = await refusal(both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model="second")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        both.second.down.clear()
        listed = await both.front.images.ListModels(pb.ListModelsRequest())
        assert [(model.name, model.version) for model in listed.models] == [("first", "0"), ("second", "7")]


async def test_a_full_model_refuses_nobody_elses_requests() -> None:
    async with pair() as both:
        both.second.load = load_of(backlog=500, rows=60, max_rows=64)
        await both.front.images.GetModel(pb.GetModelRequest(model="second"))  # hears of it
        late = both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model="second"), timeout=20)
        assert (await refusal(late)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await both.front.images.Generate(FOX, timeout=20)).pictures


async def test_requests_are_counted_by_model() -> None:
    labels = {"flow": "generate", "status": "ok"}
    async with pair() as both:
        before = [sample("unclip_requests_total", model=name, **labels) for name in ("first", "second")]
        await both.front.images.Generate(pb.GenerateRequest(prompt="a fox", model="second"))
        after = [sample("unclip_requests_total", model=name, **labels) for name in ("first", "second")]
        assert [b - a for a, b in zip(before, after, strict=True)] == [0, 1]


async def test_http_callers_name_a_model_too() -> None:
    async with pair(http_port=0) as both:
        base = f"http://127.0.0.1:{both.front.gateway.http.port}/v1"
        async with httpx.AsyncClient(base_url=base) as http:
            listed = (await http.get("/models")).json()["data"]
            assert [card["id"] for card in listed] == ["first", "second", "dall-e-2"]
            assert (await http.get("/models/second")).json()["unclip"]["version"] == "7"
            body = {"prompt": "a fox", "model": "second"}
            assert (await http.post("/images/generations", json=body)).status_code == 200
            assert (len(both.first.pictures), len(both.second.pictures)) == (0, 1)
            embedded = await http.post("/embeddings", json={"input": "a fox", "model": "second"})
            assert embedded.json()["model"] == "second"
            missing = await http.post("/images/generations", json={"prompt": "a fox", "model": "third"})
            assert missing.status_code == 404
            assert missing.json()["error"]["code"] == "model_not_found"
            assert "first, second" in missing.json()["error"]["message"]


async def test_the_command_line_names_one(tmp_path: Path) -> None:
    async with pair() as both:
        code, said = await unclip(both.front, tmp_path, "generate", "a fox", "--model", "second")
        assert code == 0, said
        assert len(both.second.pictures) == 1
        code, said = await unclip(both.front, tmp_path, "model", "list")
        assert (code, said.splitlines()) == (0, ["first 0", "second 7"])
        code, said = await unclip(both.front, tmp_path, "model", "show", "second")
        assert said.splitlines()[0] == "second 7"
        code, said = await unclip(both.front, tmp_path, "generate", "a fox", "--model", "third")
        assert code == 2
        assert "model is 'third'" in said


def test_a_table_of_models_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"first": {}, "second": {"decoder": "second-decoder@10.0.0.1:9000,10.0.0.2:9000"}}
    monkeypatch.setenv("UNCLIP_MODELS", json.dumps(table))
    monkeypatch.setenv("UNCLIP_PRIOR_ADDRESS", "prior:9000")
    settings = load_settings()
    assert settings.target("second", "decoder") == ("second-decoder", "10.0.0.1:9000,10.0.0.2:9000")
    assert settings.target("second", "prior") == ("prior", "prior:9000")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "at least one"),
        ({"a model": {}}, "no name"),
        ({"dall-e-2": {}}, "no name"),
        ({"first": {"decoder": "10.0.0.1:9000"}}, "APPLICATION@ADDRESS"),
        ({"first": {"painter": "a@b:1"}}, "painter"),
    ],
)
def test_a_table_that_is_wrong_is_refused_at_start(table: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(models=table)


def test_only_stages_of_models_may_sleep() -> None:
    with pytest.raises(ValidationError, match="none of first/text_encoder"):
        Settings(models={"first": {}}, sleeping_stages=("prior",))


async def test_options_that_a_model_does_not_take_are_told() -> None:
    options = pb.SamplingOptions(prior_steps=9, prior_guidance=3, negative_prompt="a cat")
    async with fronting(FakeStages(fixed_prior=True, ignores_text=True)) as front:
        prior = (await front.images.GetModel(pb.GetModelRequest())).defaults
        drawn = await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=options))
        assert {w.field for w in drawn.warnings} >= {"options.prior_steps", "options.prior_guidance"}
        assert drawn.pictures[0].options.prior_steps == prior.prior_steps
        picture = png_of(noise())
        negative = pb.SamplingOptions(negative_prompt="a cat")
        varied = await front.images.Vary(pb.VaryRequest(picture=picture, options=negative))
        assert [w.field for w in varied.warnings] == ["options.negative_prompt"]
        plain = await front.images.Generate(FOX)
        assert not plain.warnings
