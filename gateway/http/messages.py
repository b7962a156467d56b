"""Requests of the Images API as messages of the contract."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Any

from gateway.http import schema
from gateway.http.errors import HttpError
from services.wire.errors import InvalidInput
from services.wire.models import ALIAS
from unclip.v1 import image_service_pb2 as pb

FORMATS = {
    "png": pb.OUTPUT_FORMAT_PNG,
    "jpeg": pb.OUTPUT_FORMAT_JPEG,
    "webp": pb.OUTPUT_FORMAT_WEBP,
}


def named_model(asked: str | None, served: Collection[str]) -> str:
    """The model that is asked for; empty: the default. Raises HttpError, a 404, for one that is not there."""
    if asked in (None, "", ALIAS):
        return ""
    if asked not in served:
        reason = f"the model {asked!r:.80} is not served here; there is {', '.join(served)}"
        raise HttpError(404, reason, "model", "model_not_found")
    return asked


def generation(body: schema.Generation, request_id: str) -> pb.GenerateRequest:
    """Draw a sentence."""
    return pb.GenerateRequest(
        prompt=body.prompt,
        **_shaped(body.size),
        options=_options(body),
        output=_output(body),
        request_id=request_id,
    )


def edit(
    body: schema.Edit, picture: bytes, mask: bytes, request_id: str
) -> pb.InpaintRequest | pb.OutpaintRequest:
    """Paint the hole of a mask, or of the picture's transparency; or extend the picture."""
    if body.outpaint is None:
        return pb.InpaintRequest(
            prompt=body.prompt,
            picture=picture,
            mask=mask,
            size=min(schema.sides(body.size) or (0,)),
            options=_options(body),
            output=_output(body),
            request_id=request_id,
        )
    if mask:
        raise InvalidInput(("mask", "cannot be given with outpaint, whose hole is around the picture"))
    if schema.sides(body.size) is not None:
        raise InvalidInput(("size", "cannot be given with outpaint; the result has the margins' size"))
    return pb.OutpaintRequest(
        prompt=body.prompt,
        picture=picture,
        margins=pb.Margins(**body.outpaint.model_dump()),
        options=_options(body),
        output=_output(body),
        request_id=request_id,
    )


def variation(body: schema.Variation, picture: bytes, request_id: str) -> pb.VaryRequest:
    """Draw pictures like one."""
    return pb.VaryRequest(
        picture=picture,
        **_shaped(body.size),
        similarity=body.similarity,
        from_text=body.from_text or "",
        to_text=body.to_text or "",
        text_strength=body.text_strength,
        options=_options(body),
        output=_output(body),
        request_id=request_id,
    )


def mix(body: schema.MixBody, request_id: str) -> pb.MixRequest:
    """Draw what pictures and prompts have in common."""
    return pb.MixRequest(
        sources=[_source(f"sources[{i}]", source) for i, source in enumerate(body.sources)],
        weights=body.weights or (),
        **_shaped(body.size),
        options=_options(body),
        output=_output(body),
        request_id=request_id,
    )


def interpolation(body: schema.Interpolation, request_id: str) -> pb.InterpolateRequest:
    """Draw the way from one picture or prompt to another."""
    return pb.InterpolateRequest(
        start=_source("start", body.start),
        end=_source("end", body.end),
        frames=body.frames,
        **_shaped(body.size),
        options=_options(body),
        output=_output(body),
        request_id=request_id,
    )


def _source(param: str, source: schema.Source) -> pb.Source:
    if (source.image is None) == (source.prompt is None):
        raise InvalidInput((param, "must have either image or prompt"))
    if source.image is None:
        return pb.Source(prompt=source.prompt or "")
    return pb.Source(picture=decoded(source.image, f"{param}.image"))


def decoded(text: str, param: str) -> bytes:
    """Bytes that are given in base64. Raises InvalidInput naming the parameter."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput((param, "is no base64")) from None


def _shaped(size: str | None) -> dict[str, Any]:
    """The fields that say how large pictures are drawn."""
    sides = schema.sides(size)
    if sides is None:
        return {}
    width, height = sides
    return {"size": width} if width == height else {"shape": pb.Shape(width=width, height=height)}


def _options(body: schema.Common) -> pb.SamplingOptions:
    return pb.SamplingOptions(
        n=body.n,
        seed=body.seed,
        decoder_steps=body.steps,
        decoder_guidance=body.guidance,
        negative_prompt=body.negative_prompt or "",
    )


def _output(body: schema.Common) -> pb.Output:
    quality = body.output_compression
    return pb.Output(
        format=FORMATS[body.output_format or "png"], quality=None if quality is None else max(quality, 1)
    )
