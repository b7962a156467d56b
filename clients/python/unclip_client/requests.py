"""Requests from plain values. Pictures may be files' bytes, paths or Pillow images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from PIL import Image

from unclip.v1 import image_service_pb2 as pb

PictureLike = bytes | Path | Image.Image
Format = Literal["png", "jpeg", "webp"]
Size = int | tuple[int, int]  # of a square's side, or width and height, in px; 0: the model's default
FORMATS = {
    "png": pb.OUTPUT_FORMAT_PNG,
    "jpeg": pb.OUTPUT_FORMAT_JPEG,
    "webp": pb.OUTPUT_FORMAT_WEBP,
}
FlowRequest = (
    pb.GenerateRequest
    | pb.InpaintRequest
    | pb.OutpaintRequest
    | pb.VaryRequest
    | pb.MixRequest
    | pb.InterpolateRequest
)
KINDS: dict[type, str] = {
    pb.GenerateRequest: "generate",
    pb.InpaintRequest: "inpaint",
    pb.OutpaintRequest: "outpaint",
    pb.VaryRequest: "vary",
    pb.MixRequest: "mix",
    pb.InterpolateRequest: "interpolate",
}


class Sampling(TypedDict, total=False):
    """How to sample and what comes back; the service has a default for each.

    model: its name; the service's default if absent. n: pictures. seed: picture i is made from seed + i.
    format, quality: of the files. batch: let interactive callers go first. The rest is as in
    ``unclip.v1.SamplingOptions``.
    """

    model: str
    n: int
    seed: int
    prior_steps: int
    prior_guidance: float
    prior_candidates: int
    decoder_steps: int
    decoder_guidance: float
    upsampler_steps: int
    preview_interval: int
    negative_prompt: str
    batch: bool
    format: Format
    quality: int
    request_id: str


@dataclass(frozen=True)
class Margins:
    """Px that a picture is extended by."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


class Common(TypedDict):
    """What every request for pictures has."""

    options: pb.SamplingOptions
    output: pb.Output
    request_id: str
    model: str


def common(sampling: Sampling) -> Common:
    """The fields of ``Sampling`` as those of a request."""
    rest = dict(sampling)
    request_id = str(rest.pop("request_id", ""))
    model = str(rest.pop("model", ""))
    form = FORMATS[str(rest.pop("format", "png"))]
    output = pb.Output(format=form, quality=rest.pop("quality", None))  # type: ignore[arg-type]
    priority = pb.PRIORITY_BATCH if rest.pop("batch", False) else pb.PRIORITY_INTERACTIVE
    options = pb.SamplingOptions(priority=priority, **rest)  # type: ignore[arg-type]
    return {"options": options, "output": output, "request_id": request_id, "model": model}


def file_of(picture: PictureLike) -> bytes:
    """A picture's file."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Path):
        return picture.read_bytes()
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def source_of(given: PictureLike | str) -> pb.Source:
    """A string is a prompt; anything else is a picture."""
    return pb.Source(prompt=given) if isinstance(given, str) else pb.Source(picture=file_of(given))


class Shaped(TypedDict, total=False):
    """How large pictures are drawn."""

    size: int
    shape: pb.Shape


def shaped(size: Size) -> Shaped:
    """The fields of a request that a size becomes."""
    if isinstance(size, int):
        return {"size": size}
    width, height = size
    return {"shape": pb.Shape(width=width, height=height)}


def generate(prompt: str, size: Size, sampling: Sampling) -> pb.GenerateRequest:
    """Draw a sentence."""
    return pb.GenerateRequest(prompt=prompt, **shaped(size), **common(sampling))


def inpaint(
    picture: PictureLike, prompt: str, mask: PictureLike | None, size: int, sampling: Sampling
) -> pb.InpaintRequest:
    """Paint into a hole."""
    hole = b"" if mask is None else file_of(mask)
    return pb.InpaintRequest(
        picture=file_of(picture), prompt=prompt, mask=hole, size=size, **common(sampling)
    )


def outpaint(picture: PictureLike, prompt: str, margins: Margins, sampling: Sampling) -> pb.OutpaintRequest:
    """Extend a picture."""
    room = pb.Margins(left=margins.left, top=margins.top, right=margins.right, bottom=margins.bottom)
    return pb.OutpaintRequest(picture=file_of(picture), prompt=prompt, margins=room, **common(sampling))


def vary(
    picture: PictureLike,
    similarity: float | None,
    change: tuple[str, str] | None,
    strength: float | None,
    size: Size,
    sampling: Sampling,
) -> pb.VaryRequest:
    """Draw pictures like one. change: from what it shows, in words, to what it is to show."""
    before, after = change or ("", "")
    return pb.VaryRequest(
        picture=file_of(picture),
        similarity=similarity,
        from_text=before,
        to_text=after,
        text_strength=strength,
        **shaped(size),
        **common(sampling),
    )


def mix(
    sources: Sequence[PictureLike | str], weights: Sequence[float], size: Size, sampling: Sampling
) -> pb.MixRequest:
    """Draw what pictures and prompts have in common."""
    given = [source_of(source) for source in sources]
    return pb.MixRequest(sources=given, weights=weights, **shaped(size), **common(sampling))


def interpolate(
    start: PictureLike | str, end: PictureLike | str, frames: int, size: Size, sampling: Sampling
) -> pb.InterpolateRequest:
    """Draw the way from one to another."""
    return pb.InterpolateRequest(
        start=source_of(start), end=source_of(end), frames=frames, **shaped(size), **common(sampling)
    )


def stream_of(request: FlowRequest) -> pb.StreamRequest:
    """The request as one for a stream."""
    return pb.StreamRequest(**{KINDS[type(request)]: request})  # type: ignore[arg-type]
