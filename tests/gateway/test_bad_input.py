"""Bad input: INVALID_ARGUMENT with the field's name, never INTERNAL."""

from __future__ import annotations

import math
from typing import Any

import grpc
import grpc.aio
import pytest
from PIL import Image

from tests.editing.test_pictures import declared
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import Front, fronting, png_of, refusal
from tests.statuses import violations
from unclip.v1 import image_service_pb2 as pb

SQUARE = png_of(Image.new("RGB", (32, 32), "red"))
MASK = png_of(Image.new("L", (32, 32), 255))
OK = {"prompt": "a fox"}


def generate(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{**OK, **fields})


def options(**fields: Any) -> pb.GenerateRequest:
    return generate(options=pb.SamplingOptions(**fields))


def inpaint(**fields: Any) -> pb.InpaintRequest:
    return pb.InpaintRequest(**{**OK, "picture": SQUARE, "mask": MASK, **fields})


def outpaint(**fields: Any) -> pb.OutpaintRequest:
    return pb.OutpaintRequest(**{**OK, "picture": SQUARE, "margins": pb.Margins(left=8), **fields})


CASES = [
    ("Generate", generate(prompt=""), "prompt"),
    ("Generate", generate(prompt=" \n"), "prompt"),
    ("Generate", generate(prompt="x" * 1001), "prompt"),
    ("Generate", generate(size=1025), "size"),
    ("Generate", generate(size=2**32 - 1), "size"),
    ("Generate", generate(output=pb.Output(quality=0)), "output.quality"),
    ("Generate", generate(output={"format": 9}), "output.format"),
    ("Generate", options(priority=9), "options.priority"),
    ("Generate", options(negative_prompt="x" * 1001), "options.negative_prompt"),
    ("Generate", generate(request_id="x" * 200), "request_id"),
    ("Generate", options(n=0), "options.n"),
    ("Generate", options(n=11), "options.n"),
    ("Generate", options(prior_steps=0), "options.prior_steps"),
    ("Generate", options(decoder_steps=100_000), "options.decoder_steps"),
    ("Generate", options(upsampler_steps=0), "options.upsampler_steps"),
    ("Generate", options(prior_candidates=0), "options.prior_candidates"),
    ("Generate", options(decoder_guidance=math.nan), "options.decoder_guidance"),
    ("Generate", options(prior_guidance=math.inf), "options.prior_guidance"),
    ("Generate", options(prior_guidance=-1), "options.prior_guidance"),
    ("Inpaint", inpaint(picture=b""), "picture"),
    ("Inpaint", inpaint(picture=b"GIF89a"), "picture"),
    ("Inpaint", inpaint(picture=SQUARE[:50]), "picture"),
    ("Inpaint", inpaint(picture=declared(60_000, 60_000)), "picture"),
    ("Inpaint", inpaint(mask=declared(60_000, 60_000)), "mask"),
    ("Inpaint", inpaint(mask=png_of(Image.new("L", (32, 31), 255))), "mask"),
    ("Inpaint", inpaint(mask=png_of(Image.new("L", (32, 32), 0))), "mask"),
    ("Inpaint", inpaint(mask=b""), "mask"),
    ("Inpaint", inpaint(size=2000), "size"),
    ("Inpaint", inpaint(mask_kind=9), "mask_kind"),
    ("Vary", pb.VaryRequest(picture=SQUARE, size=6000), "size"),
    ("Vary", pb.VaryRequest(picture=SQUARE, size=2**32 - 1), "size"),
    ("Outpaint", outpaint(margins=pb.Margins()), "margins"),
    ("Outpaint", outpaint(margins=pb.Margins(left=2**32 - 1)), "margins"),
    ("Outpaint", outpaint(picture=b"x"), "picture"),
    ("Outpaint", outpaint(margins=pb.Margins(left=1000)), "margins"),
    ("Inpaint", inpaint(picture=png_of(Image.new("RGBA", (900, 100))), mask=b""), "picture"),
    ("Vary", pb.VaryRequest(picture=b""), "picture"),
    ("Vary", pb.VaryRequest(picture=SQUARE, similarity=1.5), "similarity"),
    ("Vary", pb.VaryRequest(picture=SQUARE, similarity=math.nan), "similarity"),
    ("RankCaptions", pb.RankCaptionsRequest(picture=SQUARE, captions=["one"]), "captions"),
    ("RankCaptions", pb.RankCaptionsRequest(picture=SQUARE, captions=["one", ""]), "captions[1]"),
    ("RankCaptions", pb.RankCaptionsRequest(picture=b"", captions=["one", "two"]), "picture"),
    ("EmbedText", pb.EmbedTextRequest(), "text"),
    ("EmbedImage", pb.EmbedImageRequest(picture=b"\x89PNG"), "picture"),
]


@pytest.mark.parametrize(("method", "request_", "field"), CASES)
async def test_the_field_is_named(front: Front, method: str, request_: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await getattr(front.images, method)(request_)
    assert violations(failure.value) == [field]


async def test_everything_wrong_is_told_at_once(front: Front) -> None:
    request = pb.GenerateRequest(size=5000, options=pb.SamplingOptions(n=99, decoder_guidance=math.nan))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await front.images.Generate(request)
    assert violations(failure.value) == ["prompt", "size", "options.n", "options.decoder_guidance"]


async def test_all_pictures_of_an_answer_are_bounded_together() -> None:
    async with fronting(FakeStages(), max_result_pixels=2**22) as front:
        many = pb.GenerateRequest(prompt="a fox", size=1024, options=pb.SamplingOptions(n=5))
        error = await refusal(front.images.Generate(many))
        assert violations(error) == ["options.n"]
        assert (await front.images.GetModel(pb.GetModelRequest())).limits.max_result_pixels == 2**22


async def test_streams_refuse_in_the_same_way(front: Front) -> None:
    for request, field in (
        (pb.StreamRequest(), "request"),
        (pb.StreamRequest(generate=generate(prompt="")), "prompt"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await front.images.Stream(request).read()
        assert violations(failure.value) == [field]


@pytest.mark.parametrize("data", [b"\x0a\x02\xff\xfe", b"\xff\xff\xff"])
async def test_bytes_that_are_no_message_are_bad_input(front: Front, data: bytes) -> None:
    generate_raw: Any = front.channel.unary_unary("/unclip.v1.ImageService/Generate")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await generate_raw(data)
    assert violations(failure.value) == ["request"]
    stream_raw: Any = front.channel.unary_stream("/unclip.v1.ImageService/Stream")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stream_raw(data).read()
    assert violations(failure.value) == ["request"]
