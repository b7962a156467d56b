"""Pictures that are not square, from a model that draws such; a clear refusal from one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, fronting, pixels, png_of, refusal
from tests.gateway.test_cli import unclip
from tests.http.test_openai_client import noise
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

WIDE = pb.Shape(width=192, height=128)
PICTURE = png_of(noise())
SOURCES = [pb.Source(picture=PICTURE), pb.Source(prompt="a fox")]


def requests(**fields: Any) -> dict[str, Any]:
    """One of each flow that draws new pictures."""
    return {
        "Generate": pb.GenerateRequest(prompt="a fox", **fields),
        "Vary": pb.VaryRequest(picture=PICTURE, similarity=0.5, **fields),
        "Mix": pb.MixRequest(sources=SOURCES, **fields),
        "Interpolate": pb.InterpolateRequest(start=SOURCES[0], end=SOURCES[1], frames=2, **fields),
    }


async def drawn(front: Front, method: str, request: Any) -> Any:
    return await getattr(front.images, method)(request)


@pytest.mark.parametrize("method", list(requests()))
async def test_every_flow_that_draws_new_pictures_takes_a_shape(method: str) -> None:
    stages = FakeStages(shape_multiple=64)
    async with fronting(stages) as front:
        answer = await drawn(front, method, requests(shape=WIDE)[method])
    assert pixels(answer.pictures[0].data).shape == (128, 192, 3)
    asked = stages.pictures[0]
    assert (asked.size, asked.width) == (128, 192)
    assert asked.HasField("start") == (method == "Vary")
    if method == "Vary":
        assert list(asked.start.picture.shape) == [128, 192, 3]


@pytest.mark.parametrize(
    ("shape", "multiple", "reason"),
    [
        ((192, 128), 0, "is 192 x 128; this model draws squares only"),
        ((200, 128), 64, "each side must be a multiple of 64, and at least 64"),
        ((2048, 1024), 64, "at most 1048576 pixels are allowed"),
        ((1024, 64), 64, "one side may be at most 8 times the other"),
        ((0, 0), 64, ""),
    ],
)
async def test_a_shape_that_is_not_drawn_is_refused_with_what_is(
    shape: tuple[int, int], multiple: int, reason: str
) -> None:
    stages = FakeStages(shape_multiple=multiple)
    width, height = shape
    async with fronting(stages) as front:
        request = pb.GenerateRequest(prompt="a fox", shape=pb.Shape(width=width, height=height))
        if not reason:  # of no extent: as if it were not given
            assert (await front.images.Generate(request)).pictures[0].width == 256
            return
        error = await refusal(front.images.Generate(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(error) == ["shape"]
    assert reason in str(error.details())
    assert not stages.tasks


async def test_size_and_shape_exclude_each_other() -> None:
    async with fronting(FakeStages(shape_multiple=64)) as front:
        both = pb.GenerateRequest(prompt="a fox", size=64, shape=WIDE)
        assert violations(await refusal(front.images.Generate(both))) == ["shape"]
        square = pb.GenerateRequest(prompt="a fox", shape=pb.Shape(width=100, height=100))
        assert (await front.images.Generate(square)).pictures[0].width == 100
        assert (await front.images.GetModel(pb.GetModelRequest())).shape_multiple == 64
        assert (await front.images.Generate(FOX)).pictures[0].width == 256


async def test_http_callers_and_the_command_line_say_width_and_height(tmp_path: Path) -> None:
    async with fronting(FakeStages(shape_multiple=64), http_port=0) as front:
        base = f"http://127.0.0.1:{front.gateway.http.port}/v1"
        async with httpx.AsyncClient(base_url=base) as http:
            body = {"prompt": "a fox", "size": "192x128"}
            answer = await http.post("/images/generations", json=body)
            assert answer.json()["size"] == "192x128"
            wrong = await http.post("/images/generations", json={**body, "size": "200x128"})
            assert wrong.status_code == 400
            assert wrong.json()["error"]["param"] == "size"
        code, said = await unclip(front, tmp_path, "generate", "a fox", "--size", "192x128", "-o", "fox.png")
        assert code == 0, said
        assert "192x128" in said
        code, said = await unclip(front, tmp_path, "generate", "a fox", "--size", "wide")
        assert code == 2
        assert "neither a side (512) nor WIDTHxHEIGHT (768x512)" in said
