"""Mixing pictures and prompts, and the way from one to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.flows.embeddings import spherical_mean, turned
from services.wire.tensors import from_message
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import Front, fronting, png_of, refusal
from tests.gateway.test_cli import unclip
from tests.gateway.test_contract import noise
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

PICTURE = pb.Source(picture=png_of(noise(80, 64)))
SNOW = pb.Source(prompt="in the snow")


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake 1985, of unit vectors."""
    angle = np.arccos(np.clip(a @ b, -1, 1))
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_the_mean_of_two_is_slerp(share: float) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    mean = spherical_mean([a, b], [1 - share, share])
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    wanted = slerp(a / lengths[0], b / lengths[1], share) * ((1 - share) * lengths[0] + share * lengths[1])
    np.testing.assert_allclose(mean, wanted, atol=1e-5)


def test_a_mean_stays_near_those_that_weigh_and_on_the_sphere() -> None:
    rows = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = spherical_mean(list(rows), [8, 1, 1, 1, 0])
    assert np.linalg.norm(mean) == pytest.approx(1.0, abs=1e-5)
    assert int((rows @ mean).argmax()) == 0
    apart = spherical_mean([rows[0], -rows[0]], [1, 1])
    assert np.isfinite(apart).all()
    assert np.linalg.norm(apart) == pytest.approx(1.0, abs=1e-5)


def test_a_turned_embedding_comes_nearer_and_keeps_its_length() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 16)).astype(np.float32)

    def near(x: np.ndarray) -> float:
        return float(x @ b / np.linalg.norm(x) / np.linalg.norm(b))

    steps = [turned(a, b, share) for share in (0.0, 0.3, 0.6)]
    assert near(steps[0]) < near(steps[1]) < near(steps[2])
    assert [np.linalg.norm(x) for x in steps] == pytest.approx([np.linalg.norm(a)] * 3, rel=1e-5)


async def test_a_mix_asks_the_prior_once_for_each_prompt(front: Front) -> None:
    front.stages.tasks.clear()
    options = pb.SamplingOptions(n=2, seed=5)
    request = pb.MixRequest(sources=[PICTURE, SNOW, SNOW], weights=[2, 1, 1], options=options)
    response = await front.images.Mix(request)
    assert [picture.seed for picture in response.pictures] == [5, 6]
    assert len(front.stages.tasks) == 2 * 2 + 2  # two prompts and a decoder call for each picture
    assert response.pictures[0].options.HasField("prior_steps")
    pictures_only = await front.images.Mix(pb.MixRequest(sources=[PICTURE, PICTURE]))
    assert not pictures_only.pictures[0].options.HasField("prior_steps")


async def test_the_way_from_one_to_another_has_one_seed(front: Front) -> None:
    front.stages.tasks.clear()
    front.stages.pictures.clear()
    request = pb.InterpolateRequest(
        start=PICTURE, end=PICTURE, frames=4, size=64, options=pb.SamplingOptions(seed=9)
    )
    stream = front.images.Stream(pb.StreamRequest(interpolate=request))
    drawn = [r async for r in stream if r.HasField("picture")]
    assert sorted(r.picture_index for r in drawn) == [0, 1, 2, 3]
    assert {r.picture.seed for r in drawn} == {9}
    assert {task.seed for task in front.stages.tasks} == {9}


async def test_a_variation_is_turned_by_words() -> None:
    stages = FakeStages()
    async with fronting(stages) as front:
        picture = png_of(noise(64, 64))
        plain = pb.VaryRequest(picture=picture)
        await front.images.Vary(plain)
        same = pb.VaryRequest(picture=picture, from_text="a cat", to_text="a lion")
        answer = await front.images.Vary(same)  # the fake's texts are all alike
        assert [(w.code, w.field) for w in answer.warnings] == [(pb.WARNING_CODE_NO_EFFECT, "to_text")]
        stages.lengths = True
        assert not (await front.images.Vary(same)).warnings
        first, last = (from_message(stages.pictures[i].embedding, "x", (None,)) for i in (0, -1))
        assert not np.allclose(first, last)


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        ("Mix", pb.MixRequest(sources=[SNOW]), "sources"),
        ("Mix", pb.MixRequest(sources=[SNOW] * 9), "sources"),
        ("Mix", pb.MixRequest(sources=[SNOW, pb.Source()]), "sources[1]"),
        ("Mix", pb.MixRequest(sources=[SNOW, pb.Source(prompt=" ")]), "sources[1].prompt"),
        ("Mix", pb.MixRequest(sources=[SNOW, pb.Source(picture=b"no")]), "sources[1].picture"),
        ("Mix", pb.MixRequest(sources=[SNOW, SNOW], weights=[1]), "weights"),
        ("Mix", pb.MixRequest(sources=[SNOW, SNOW], weights=[0, 0]), "weights"),
        ("Mix", pb.MixRequest(sources=[SNOW, SNOW], weights=[-1, 2]), "weights"),
        ("Mix", pb.MixRequest(sources=[SNOW, SNOW], weights=[float("nan"), 2]), "weights"),
        ("Mix", pb.MixRequest(sources=[SNOW, SNOW], size=2**31), "size"),
        ("Interpolate", pb.InterpolateRequest(start=SNOW, frames=3), "end"),
        ("Interpolate", pb.InterpolateRequest(start=SNOW, end=SNOW, frames=1), "frames"),
        ("Interpolate", pb.InterpolateRequest(start=SNOW, end=SNOW, frames=2**32 - 1), "frames"),
        (
            "Interpolate",
            pb.InterpolateRequest(start=SNOW, end=SNOW, frames=3, options=pb.SamplingOptions(n=3)),
            "options.n",
        ),
        ("Vary", pb.VaryRequest(picture=PICTURE.picture, to_text="a lion"), "from_text"),
        ("Vary", pb.VaryRequest(picture=PICTURE.picture, text_strength=0.5), "text_strength"),
        (
            "Vary",
            pb.VaryRequest(picture=PICTURE.picture, from_text="a", to_text="b", text_strength=2),
            "text_strength",
        ),
    ],
)
async def test_what_is_not_allowed_is_named(front: Front, call: str, request_: Any, field: str) -> None:
    front.stages.tasks.clear()
    error = await refusal(getattr(front.images, call)(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in violations(error)
    assert not front.stages.tasks


async def test_mixing_needs_no_stage_that_it_does_not_use() -> None:
    async with fronting(FakeStages(down={"prior"})) as front:
        assert (await front.images.Mix(pb.MixRequest(sources=[PICTURE, PICTURE]))).pictures
        error = await refusal(front.images.Mix(pb.MixRequest(sources=[PICTURE, SNOW])))
        assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_command_line_mixes_files_and_prompts(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(PICTURE.picture)
    async with fronting(FakeStages()) as front:
        code, said = await unclip(
            front, tmp_path, "mix", "fox.png", "in the snow", "--weights", "0.6", "0.4", "--size", "64"
        )
        assert code == 0, said
        assert front.stages.texts.count("in the snow") == 1
        code, said = await unclip(
            front, tmp_path, "interpolate", "fox.png", "a cat", "--frames", "3", "--size", "64", "-o", "w.png"
        )
        assert code == 0, said
        assert sorted(f.name for f in tmp_path.glob("w-*.png")) == ["w-1.png", "w-2.png", "w-3.png"]
        code, said = await unclip(front, tmp_path, "mix", "owl.png", "a cat")
        assert code == 2
        assert "there is no file" in said
