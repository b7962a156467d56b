"""Pictures from callers and back.

Checked by their header before anything is decoded, whatever their shape or mode.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
OutputFormat = Literal["PNG", "WEBP", "JPEG"]
FORMATS = ("PNG", "JPEG", "WEBP")
# Our own limit applies, before anything is decoded (see ``PictureLimits``); Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
MAX_PROFILE_BYTES = 2**20
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
REDUCTIONS = (1, 2, 4, 8)  # what a JPEG can be decoded at, for the cost of the reduced size


class PictureError(ValueError):
    """A picture cannot be used. The message is what follows its name: "is broken or truncated"."""


@dataclass(frozen=True)
class PictureLimits:
    """The most bytes a picture may have as sent, and the most pixels it may declare.

    max_reduced_pixels: of a JPEG that may be read at a reduced size.
    """

    max_bytes: int
    max_pixels: int
    max_reduced_pixels: int


@dataclass(frozen=True)
class Header:
    """What a picture declares.

    Width and height in px as it is shown, and by how much it is reduced when it is read.
    """

    width: int
    height: int
    reduction: int = 1

    @property
    def pixels(self) -> int:
        """How many will be decoded."""
        return -(-self.width // self.reduction) * -(-self.height // self.reduction)


def read_header(data: bytes, limits: PictureLimits, *, reducible: bool = False) -> Header:
    """Check a PNG, JPEG or WebP without decoding it. Raises PictureError.

    reducible: a large JPEG will do at a reduced size. A progressive one would not cost less, and is refused.
    """
    if not data:
        raise PictureError("is required: a PNG, JPEG or WebP picture")
    if len(data) > limits.max_bytes:
        raise PictureError(f"has {len(data)} bytes; at most {limits.max_bytes} are allowed")
    picture = _open(data)
    width, height = picture.size
    declared = width * height
    if _orientation(picture) in SIDEWAYS:
        width, height = height, width
    if declared <= limits.max_pixels:
        return Header(width, height)
    reduces = reducible and picture.format == "JPEG" and not picture.info.get("progressive")
    if reduces and declared <= limits.max_reduced_pixels:
        for reduction in REDUCTIONS:
            header = Header(width, height, reduction)
            if header.pixels <= limits.max_pixels:
                return header
    raise PictureError(f"is {width} x {height}; at most {limits.max_pixels} pixels are allowed")


def read_picture(data: bytes, header: Header) -> Image.Image:
    """Decode a picture whose header was checked into RGBA, upright, in sRGB. Raises PictureError.

    Metadata that cannot be read is ignored: pixels are what counts.
    """
    picture = _open(data)
    if header.reduction > 1:
        picture.draft("RGB", (picture.width // header.reduction, picture.height // header.reduction))
    orientation = _orientation(picture)
    try:
        picture.load()
        return _upright(_to_rgba(_to_srgb(picture)), orientation)
    # Pillow's decoders raise whatever their formats' parsers do; all of it means that the bytes are bad.
    except Exception:
        raise PictureError("is broken or truncated") from None


def _open(data: bytes) -> Image.Image:
    """Read the header; if metadata is in the way, without that."""
    if data.startswith(PNG_SIGNATURE):
        data = _without_png_text(data)
    attempts = [data, _without_jpeg_metadata(data)] if data.startswith(b"\xff\xd8") else [data]
    for attempt in attempts:
        try:
            return Image.open(io.BytesIO(attempt), formats=FORMATS)
        except UnidentifiedImageError:
            known = data.startswith((PNG_SIGNATURE, b"\xff\xd8"))
            if not known:
                raise PictureError("is not a picture; PNG, JPEG and WebP are allowed") from None
        except Exception:
            continue
    raise PictureError("is broken or truncated")


def _without_png_text(data: bytes) -> bytes:
    """Without text, and without a colour profile that unpacks to too much.

    Pillow would refuse the picture for it.
    """
    kept = [PNG_SIGNATURE]
    for kind, chunk in _png_chunks(data):
        if kind not in PNG_TEXT and not (kind == b"iCCP" and _is_large_profile(chunk)):
            kept.append(chunk)
    return b"".join(kept)


def _is_large_profile(chunk: bytes) -> bool:
    """Whether a compressed colour profile is too large, or cannot be unpacked."""
    start = chunk.find(b"\0", 8) + 2  # after its name and the compression method
    try:
        return len(zlib.decompressobj().decompress(chunk[start:-4], MAX_PROFILE_BYTES)) >= MAX_PROFILE_BYTES
    except zlib.error:
        return True


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, whole chunk) of a PNG; what is no chunk at the end comes as it is."""
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        yield data[place + 4 : place + 8], data[place:end]
        place = end
    if place < len(data):
        yield b"", data[place:]


def _without_jpeg_metadata(data: bytes) -> bytes:
    """Without application segments. JFIF's, Adobe's (the colour model) and colour profiles stay."""
    kept = [data[:2]]
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        segment = data[place : place + 2 + length]
        metadata = 0xE1 <= marker <= 0xEF and marker != 0xEE and not segment[4:].startswith(b"ICC_PROFILE")
        if not metadata:
            kept.append(segment)
        place += 2 + length
    return b"".join([*kept, data[place:]])


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none that can be read."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours as sRGB, where the picture has another profile that can be read. Its alpha stays as it is."""
    profile = picture.info.get("icc_profile")
    if not profile or len(profile) > MAX_PROFILE_BYTES or picture.mode.startswith(("I", "F")):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        target = ImageCms.createProfile("sRGB")
        alpha = picture.convert("RGBA").getchannel("A")
        colours = picture if picture.mode in ("RGB", "CMYK", "L") else picture.convert("RGB")
        converted = ImageCms.profileToProfile(colours, source, target, outputMode="RGB")
    except Exception:
        return picture
    assert converted is not None
    converted.putalpha(alpha)
    return converted


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


def alpha_of(picture: Image.Image) -> Pixels | None:
    """(H, W) of an RGBA picture; None if all of it is opaque."""
    alpha = np.asarray(picture.getchannel("A"))
    return alpha if (alpha < 255).any() else None


def flattened(picture: Image.Image) -> Image.Image:
    """RGB on white: how a picture with transparency looks."""
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")


def centre_square(picture: Image.Image, side: int) -> Pixels:
    """The picture's centre square on white, scaled to (side, side, 3)."""
    return np.asarray(ImageOps.fit(flattened(picture), (side, side), Image.Resampling.LANCZOS))


def reduced(pixels: Pixels, side: int) -> Pixels:
    """(S, S, 3) at a smaller side, or as it is."""
    if len(pixels) == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def encode_picture(pixels: Pixels, form: OutputFormat = "PNG", quality: int = 90) -> bytes:
    """(H, W, 3) or, with alpha, (H, W, 4) as a file. JPEG has no alpha: it is flattened on white."""
    picture = Image.fromarray(pixels)
    stream = io.BytesIO()
    if form == "PNG":
        picture.save(stream, form, compress_level=4)
    elif form == "JPEG":
        opaque = flattened(picture) if picture.mode == "RGBA" else picture
        opaque.save(stream, form, quality=quality)
    else:
        picture.save(stream, form, quality=quality, exact=True)
    return stream.getvalue()
