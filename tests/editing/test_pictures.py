"""Pictures from callers: any mode, size and orientation; bad ones refused before they cost anything."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from services.editing.pictures import (
    PictureLimits,
    centre_square,
    encode_png,
    flattened,
    read_hole,
    read_picture,
)
from services.wire.errors import InvalidInput

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=512 * 512)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 64)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data, b"IEND")
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (10, 1))
    picture = (
        Image.fromarray(grey.astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(grey).convert(mode)
    )
    read = read_picture(encoded(picture), "picture", LIMITS)
    assert read.mode == "RGBA"
    assert read.size == (20, 10)
    shown = np.asarray(read.convert("L"), int)
    assert abs(shown[:, 0].mean()) <= 2
    assert abs(shown[:, -1].mean() - 255) <= 2
    if mode not in ("1", "P"):
        assert abs(shown - grey).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_jpeg_and_webp_are_read(kind: str) -> None:
    assert read_picture(encoded(Image.new("RGB", (9, 7), "red"), kind), "picture", LIMITS).size == (9, 7)


def test_cmyk_jpeg_is_read() -> None:
    assert read_picture(encoded(Image.new("CMYK", (9, 7)), "JPEG"), "picture", LIMITS).mode == "RGBA"


def test_orientation_is_honoured() -> None:
    picture = Image.new("RGB", (30, 10), "white")
    exif = picture.getexif()
    exif[0x0112] = 6
    assert read_picture(encoded(picture, "JPEG", exif=exif), "picture", LIMITS).size == (10, 30)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "required"),
        (b"not a picture", "PNG, JPEG and WebP"),
        (encoded(Image.new("RGB", (64, 64)))[:60], "broken or truncated"),
        (encoded(Image.new("RGB", (600, 600))), "262144 pixels"),
        (b"\0" * (2**20 + 1), "1048576"),
        (encoded(Image.new("RGB", (8, 8)), "BMP"), "PNG, JPEG and WebP"),
        (encoded(Image.new("RGB", (8, 8)), "TIFF"), "PNG, JPEG and WebP"),
    ],
)
def test_bad_pictures_name_the_field_and_what_is_allowed(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"^picture: .*{says}"):
        read_picture(data, "picture", LIMITS)


def test_every_truncation_is_refused_as_bad_input() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encoded(noise, kind)
        for length in range(1, len(data) - 20, max(1, len(data) // 37)):
            with pytest.raises(InvalidInput):
                read_picture(data[:length], "picture", LIMITS)


def test_a_small_file_that_declares_a_huge_picture_is_refused_cheaply() -> None:
    data = declared(60_000, 60_000)
    assert len(data) < 200
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="60000 x 60000"):
        read_picture(data, "picture", LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_transparent_means_paint_here() -> None:
    picture = Image.new("RGBA", (8, 6), "red")
    mask = Image.new("RGBA", (8, 6), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (2, 1, 5, 4))
    hole = read_hole(encoded(mask), picture, LIMITS)
    assert hole.sum() == 9
    assert hole[1:4, 2:5].all()


def test_white_means_paint_here_in_an_opaque_mask() -> None:
    mask = Image.new("L", (8, 6), 0)
    mask.paste(255, (0, 0, 4, 6))
    assert read_hole(encoded(mask), Image.new("RGBA", (8, 6)), LIMITS)[:, :4].all()


def test_without_a_mask_the_pictures_own_transparency_counts() -> None:
    picture = Image.new("RGBA", (8, 6), "red")
    picture.putpixel((3, 3), (0, 0, 0, 0))
    assert read_hole(b"", picture, LIMITS).sum() == 1


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (encoded(Image.new("L", (8, 6), 0)), "nothing to paint"),
        (encoded(Image.new("RGBA", (8, 6), "white")), None),
        (encoded(Image.new("L", (8, 7), 255)), "8 x 6"),
        (b"", "required"),
        (b"xx", "mask: is not a picture"),
    ],
)
def test_bad_masks_name_the_mask(mask: bytes, says: str | None) -> None:
    picture = Image.new("RGBA", (8, 6), "red")
    if says is None:
        assert read_hole(mask, picture, LIMITS).all()
        return
    with pytest.raises(InvalidInput, match=f"mask.*{says}|{says}"):
        read_hole(mask, picture, LIMITS)


def test_squares_are_cut_from_the_centre_on_white() -> None:
    picture = Image.new("RGBA", (300, 100), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (100, 0, 200, 100))
    assert (centre_square(picture, 50)[:, 5:-5] == (255, 0, 0)).all()
    assert flattened(picture).getpixel((0, 0)) == (255, 255, 255)


def test_png_keeps_every_bit() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (33, 21, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)
