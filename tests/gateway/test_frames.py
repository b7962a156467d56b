"""A canvas is painted in frames: their number is told first, and too many are refused before any is."""

from __future__ import annotations

import grpc
import pytest

from tests.fakes.stages import FakeStages
from tests.gateway.conftest import Front, fronting, png_of, refusal
from tests.gateway.test_contract import noise
from unclip.v1 import image_service_pb2 as pb

WIDE = pb.OutpaintRequest(
    picture=png_of(noise(64, 64)),
    prompt="a fox",
    margins=pb.Margins(right=192),
    options=pb.SamplingOptions(n=2),
)


async def test_the_first_progress_of_each_picture_tells_the_number_of_frames(front: Front) -> None:
    front.stages.pictures.clear()
    responses = [r async for r in front.images.Stream(pb.StreamRequest(outpaint=WIDE))]
    frames = len(front.stages.pictures) // 2
    assert frames > 1
    for picture in range(2):
        told = [r.progress for r in responses if r.picture_index == picture and r.HasField("progress")]
        assert {progress.frames for progress in told} == {frames}
        assert told[0].frame == 0
        assert [p.frame for p in told] == sorted(p.frame for p in told)
        assert told[-1].frame == frames - 1


async def test_a_canvas_that_needs_too_many_frames_is_refused_by_a_limit_that_is_told() -> None:
    async with fronting(FakeStages(), max_frames=1) as front:
        limits = (await front.images.GetModel(pb.GetModelRequest())).limits
        assert limits.max_frames == 1
        error = await refusal(front.images.Outpaint(WIDE))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "1 frame" in (error.details() or "")
        assert not front.stages.pictures


@pytest.mark.parametrize("margins", [pb.Margins(right=64 * 8), pb.Margins(top=64 * 4, bottom=64 * 4)])
async def test_a_canvas_that_is_too_long_is_refused_by_a_limit_that_is_told(
    front: Front, margins: pb.Margins
) -> None:
    front.stages.pictures.clear()
    longest = (await front.images.GetModel(pb.GetModelRequest())).limits.max_aspect_ratio
    assert longest == 8
    error = await refusal(
        front.images.Outpaint(
            pb.OutpaintRequest(picture=png_of(noise(64, 64)), prompt="a fox", margins=margins)
        )
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "margins" in (error.details() or "")
    assert not front.stages.pictures
