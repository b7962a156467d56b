"""Pictures from callers and back: checked before they are decoded, whatever their size, shape, mode or orientation."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from services.wire.errors import InvalidInput

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
FORMATS = ("PNG", "JPEG", "WEBP")
# Our own limit applies, before anything is decoded (see ``PictureLimits``); Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class PictureLimits:
    """The most bytes a picture may have as sent, and the most pixels it may declare."""

    max_bytes: int
    max_pixels: int


def read_picture(data: bytes, field: str, limits: PictureLimits) -> Image.Image:
    """Decode a PNG, JPEG or WebP into RGBA, upright. Raises InvalidInput naming ``field``.

    The header alone is read first: a small file that declares a huge picture is refused before it costs anything.
    """
    if not data:
        raise InvalidInput(field, "is required: a PNG, JPEG or WebP picture")
    if len(data) > limits.max_bytes:
        raise InvalidInput(field, f"has {len(data)} bytes; at most {limits.max_bytes} are allowed")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InvalidInput(field, "is not a picture; PNG, JPEG and WebP are allowed") from None
    except Exception:
        raise InvalidInput(field, "is broken or truncated") from None
    if picture.width * picture.height > limits.max_pixels:
        raise InvalidInput(
            field, f"is {picture.width} x {picture.height}; at most {limits.max_pixels} pixels are allowed"
        )
    try:
        return _to_rgba(ImageOps.exif_transpose(picture))
    # Pillow's decoders raise whatever their formats' parsers do; all of it means that the bytes are bad.
    except Exception:
        raise InvalidInput(field, "is broken or truncated") from None


def _to_rgba(picture: Image.Image) -> Image.Image:
    """Any mode as RGBA; 16-bit and float greys are scaled to 8 bits, where Pillow itself would clip."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, np.float64)
        top = 65535.0 if picture.mode.startswith("I") else max(float(grey.max()), 1.0)
        picture = Image.fromarray((grey / top * 255).clip(0, 255).astype(np.uint8))
    return picture.convert("RGBA")


def rgb(picture: Image.Image) -> Pixels:
    """(H, W, 3) of an RGBA picture; what is transparent shows as it is stored."""
    return np.asarray(picture.convert("RGB"))


def flattened(picture: Image.Image) -> Image.Image:
    """RGB on white: how a picture with transparency looks."""
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")


def read_hole(data: bytes, picture: Image.Image, limits: PictureLimits) -> Mask:
    """Where to paint, (H, W): the mask's transparent pixels or, if it has none, its white ones.

    Without a mask, the picture's own transparency counts. Raises InvalidInput for a mask of another size or
    with nothing to paint.
    """
    if not data:
        hole = _alpha(picture) < 128
        if not hole.any():
            raise InvalidInput("mask", "is required, as the picture has no transparent pixels to paint")
        return hole
    mask = read_picture(data, "mask", limits)
    if mask.size != picture.size:
        raise InvalidInput(
            "mask",
            f"is {mask.width} x {mask.height}; it must be {picture.width} x {picture.height}, as the picture is",
        )
    alpha = _alpha(mask)
    hole = alpha < 128 if (alpha < 255).any() else np.asarray(mask.convert("L")) > 127
    if not hole.any():
        raise InvalidInput(
            "mask", "has nothing to paint; transparent or, in an opaque mask, white pixels are painted"
        )
    return hole


def _alpha(picture: Image.Image) -> Pixels:
    return np.asarray(picture.getchannel("A"))


def centre_square(picture: Image.Image, side: int) -> Pixels:
    """The picture's centre square on white, scaled to (side, side, 3)."""
    return np.asarray(ImageOps.fit(flattened(picture), (side, side), Image.Resampling.LANCZOS))


def encode_png(pixels: Pixels) -> bytes:
    """(H, W, 3) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=6)
    return stream.getvalue()
