"""Pictures from callers and back.

Checked by their header before anything is decoded, whatever their shape or mode.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from services.editing import jpeg, png
from services.editing.errors import PictureError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
OutputFormat = Literal["PNG", "WEBP", "JPEG"]
FORMATS = ("PNG", "JPEG", "WEBP")
# Our own limit applies, before anything is decoded (see ``PictureLimits``); Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None

TO_8_BITS = np.linspace(0, 255, 2**16).round().astype(np.uint8)  # of 16-bit greys
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
REDUCTIONS = (1, 2, 4, 8)  # what a JPEG can be decoded at, for the cost of the reduced size


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

    reducible: a large JPEG will do at a reduced size. One that is progressive, or has a scan for each colour,
    would take as much memory as at its full size, and is refused.
    """
    if not data:
        raise PictureError("is required: a PNG, JPEG or WebP picture")
    if len(data) > limits.max_bytes:
        raise PictureError(f"has {len(data)} bytes; at most {limits.max_bytes} are allowed")
    picture = _open(data)
    width, height = picture.size
    declared = width * height
    reduction = 1
    if declared > limits.max_pixels:
        reduces = reducible and declared <= limits.max_reduced_pixels and _reduces(picture, data)
        fitting = (r for r in REDUCTIONS if Header(width, height, r).pixels <= limits.max_pixels)
        reduction = next(fitting, 0) if reduces else 0
    if not reduction:
        raise PictureError(f"is {width} x {height}; at most {limits.max_pixels} pixels are allowed")
    if _orientation(picture) in SIDEWAYS:
        width, height = height, width
    return Header(width, height, reduction)


def _reduces(picture: Image.Image, data: bytes) -> bool:
    """Whether the picture can be decoded at a reduced size for the cost of that."""
    sequential = picture.format in ("JPEG", "MPO") and not picture.info.get("progressive")
    return sequential and jpeg.has_one_scan(data)


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
    """Read the header; if metadata is in the way, without that. Raises PictureError."""
    if data.startswith(png.SIGNATURE):
        attempts = [png.without_text(data)]
    elif data.startswith(jpeg.START):
        jpeg.check(data)
        attempts = [data, jpeg.without_metadata(data)]
    else:
        attempts = [data]
    for attempt in attempts:
        try:
            return Image.open(io.BytesIO(attempt), formats=FORMATS)
        except UnidentifiedImageError:
            if not data.startswith((png.SIGNATURE, jpeg.START)):
                raise PictureError("is not a picture; PNG, JPEG and WebP are allowed") from None
        except Exception:
            continue
    raise PictureError("is broken or truncated")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none that can be read.

    Pillow's own ``getexif`` would decode a PNG to look for EXIF data behind its pixels.
    """
    try:
        exif = Image.Exif()
        exif.load(picture.info["exif"])
        return int(exif.get(ORIENTATION, 1))
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
    if not profile or len(profile) > png.MAX_PROFILE_BYTES or picture.mode.startswith("I"):
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
    """Any mode as RGBA; 16-bit greys are scaled to 8 bits, where Pillow itself would clip."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture)
        picture = Image.fromarray(TO_8_BITS[grey.clip(0, len(TO_8_BITS) - 1)])
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


def centre_of(picture: Image.Image, shape: tuple[int, int]) -> Pixels:
    """The largest centre of the picture with these proportions, on white, scaled to (width, height)."""
    return np.asarray(ImageOps.fit(flattened(picture), shape, Image.Resampling.LANCZOS))


def reduced(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """A picture at a smaller width and height, or as it is."""
    picture = Image.fromarray(pixels)
    if picture.size == shape:
        return pixels
    return np.asarray(picture.resize(shape, Image.Resampling.LANCZOS))


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
