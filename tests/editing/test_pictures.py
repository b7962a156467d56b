"""Pictures from callers: any mode, size and orientation; bad ones refused before they cost anything."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from services.editing import jpeg, pictures, png
from services.editing.errors import PictureError
from services.editing.pictures import (
    PictureLimits,
    centre_of,
    encode_picture,
    flattened,
    read_header,
)

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=512 * 512, max_reduced_pixels=4 * 512 * 512)


def read_picture(data: bytes, *, reducible: bool = False) -> Image.Image:
    """Check, then decode, as the gateway does."""
    return pictures.read_picture(data, read_header(data, LIMITS, reducible=reducible))


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
    read = read_picture(encoded(picture))
    assert read.mode == "RGBA"
    assert read.size == (20, 10)
    shown = np.asarray(read.convert("L"), int)
    assert abs(shown[:, 0].mean()) <= 2
    assert abs(shown[:, -1].mean() - 255) <= 2
    if mode not in ("1", "P"):
        assert abs(shown - grey).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_jpeg_and_webp_are_read(kind: str) -> None:
    assert read_picture(encoded(Image.new("RGB", (9, 7), "red"), kind)).size == (9, 7)


def test_cmyk_jpeg_is_read() -> None:
    assert read_picture(encoded(Image.new("CMYK", (9, 7)), "JPEG")).mode == "RGBA"


def test_orientation_is_honoured() -> None:
    picture = Image.new("RGB", (30, 10), "white")
    exif = picture.getexif()
    exif[0x0112] = 6
    assert read_picture(encoded(picture, "JPEG", exif=exif)).size == (10, 30)


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
    with pytest.raises(PictureError, match=says):
        read_picture(data)


def test_every_truncation_is_refused_as_bad_input() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encoded(noise, kind)
        for length in range(1, len(data) - 20, max(1, len(data) // 37)):
            with pytest.raises(PictureError):
                read_picture(data[:length])


def test_a_small_file_that_declares_a_huge_picture_is_refused_cheaply() -> None:
    data = declared(60_000, 60_000)
    assert len(data) < 200
    tracemalloc.start()
    with pytest.raises(PictureError, match="60000 x 60000"):
        read_picture(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def huge_png() -> bytes:
    """A whole PNG of 6000 x 6000, of which a file of 100 kB is enough."""
    return encoded(Image.new("1", (6000, 6000)))


def test_no_pixel_is_decoded_before_the_header_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = huge_png()
    small = encoded(Image.new("RGB", (20, 10)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="6000 x 6000"):
        read_header(data, LIMITS)
    assert read_header(small, LIMITS).width == 20


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png.SIGNATURE + b"\0\0\0\0tEXt\0\0\0\0" * 80_000, "chunks"),
        (jpeg.START + b"\xff" * 1_000_000, "segments or stray bytes"),
        (jpeg.START + b"\xff\xfe\0\x02" * 200_000, "segments or stray bytes"),
        (jpeg.START + b"\0" * 1_000_000, "segments or stray bytes"),
    ],
)
def test_files_made_of_very_many_small_parts_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        read_header(data, LIMITS)


def test_only_a_jpeg_with_one_scan_is_decoded_at_a_reduced_size() -> None:
    """Others keep coefficients of all of the picture in memory."""
    photo = encoded(Image.new("RGB", (1024, 512), "red"), "JPEG")
    assert read_header(photo, LIMITS, reducible=True).reduction == 2
    scan = photo.index(b"\xff\xda")
    one_colour = photo[: scan + 4] + b"\x01" + photo[scan + 5 :]
    for data in (one_colour, encoded(Image.new("RGB", (1024, 512)), "JPEG", progressive=True)):
        with pytest.raises(PictureError, match="1024 x 512"):
            read_header(data, LIMITS, reducible=True)


def test_a_phones_photo_with_a_second_picture_in_it_is_a_jpeg() -> None:
    photo = Image.new("RGB", (1024, 512), "red")
    stream = io.BytesIO()
    photo.save(stream, "MPO", save_all=True, append_images=[photo])
    assert read_header(stream.getvalue(), LIMITS, reducible=True).reduction == 2
    assert read_picture(stream.getvalue(), reducible=True).size == (512, 256)


def test_squares_are_cut_from_the_centre_on_white() -> None:
    picture = Image.new("RGBA", (300, 100), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (100, 0, 200, 100))
    assert (centre_of(picture, (50, 50))[:, 5:-5] == (255, 0, 0)).all()
    assert flattened(picture).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_keeps_every_bit(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (33, 21, channels), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_picture(pixels)))), pixels)


def test_jpeg_is_flattened_on_white_and_webp_keeps_alpha() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    jpeg = Image.open(io.BytesIO(encode_picture(pixels, "JPEG")))
    assert jpeg.format == "JPEG"
    assert np.asarray(jpeg).min() > 250
    webp = Image.open(io.BytesIO(encode_picture(pixels, "WEBP")))
    assert webp.format == "WEBP"
    assert np.asarray(webp)[..., 3].max() == 0


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_a_png_with_much_text_is_read(kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    text = "word " * 2_000_000
    if kind == "iTXt":
        info.add_itxt("comment", text, zip=True)
    else:
        info.add_text("comment", text if kind == "zTXt" else text[:700_000], zip=kind == "zTXt")
    picture = Image.new("RGB", (9, 7), "red")
    assert read_picture(encoded(picture, pnginfo=info)).getpixel((0, 0)) == (255, 0, 0, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 100])
def test_metadata_that_cannot_be_read_is_ignored(kind: str, exif: bytes) -> None:
    assert read_picture(encoded(Image.new("RGB", (9, 7), "red"), kind, exif=exif)).size == (9, 7)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [10, 3 * 2**20])
def test_a_profile_that_cannot_be_read_is_ignored(kind: str, size: int) -> None:
    data = encoded(Image.new("RGB", (9, 7), (200, 30, 30)), kind, icc_profile=b"x" * size)
    if len(data) <= LIMITS.max_bytes:
        assert read_picture(data).size == (9, 7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_srgb_profile_changes_no_pixel(mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, len(mode)), dtype=np.uint8)
    read = np.asarray(read_picture(encoded(Image.fromarray(noise), icc_profile=profile)))
    np.testing.assert_array_equal(read[..., : len(mode)], noise)


def test_another_profile_is_converted_and_alpha_stays() -> None:
    noise = np.random.default_rng(0).integers(1, 255, (20, 20, 4), dtype=np.uint8)
    profile = wide_gamut_profile()
    read = np.asarray(read_picture(encoded(Image.fromarray(noise), icc_profile=profile)))
    np.testing.assert_array_equal(read[..., 3], noise[..., 3])
    assert np.abs(read[..., :3].astype(int) - noise[..., :3]).mean() > 2


def wide_gamut_profile() -> bytes:
    """sRGB's profile with its red primary moved and another description."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for i in range(count):
        tag, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        if tag == b"rXYZ":
            struct.pack_into(">iii", profile, offset + 8, 33750, 15800, -68)
        if tag in (b"desc", b"dmdd"):
            text = bytes(profile[offset : offset + length])
            profile[offset : offset + length] = text.replace(b"s\0R\0G\0B", b"w\0i\0d\0e").replace(
                b"sRGB", b"wide"
            )
    return bytes(profile)


def test_a_large_jpeg_is_read_at_a_reduced_size_where_that_will_do() -> None:
    data = encoded(Image.new("RGB", (1000, 600), "red"), "JPEG")
    with pytest.raises(PictureError, match="262144 pixels"):
        read_header(data, LIMITS)
    header = read_header(data, LIMITS, reducible=True)
    assert (header.width, header.height, header.reduction) == (1000, 600, 2)
    assert read_picture(data, reducible=True).size == (500, 300)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("RGB", (1000, 600)), "JPEG", progressive=True),
        encoded(Image.new("RGB", (1000, 600)), "PNG"),
        encoded(Image.new("RGB", (2000, 2000)), "JPEG"),
    ],
)
def test_what_would_have_to_be_decoded_whole_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match="262144 pixels"):
        read_header(data, LIMITS, reducible=True)
