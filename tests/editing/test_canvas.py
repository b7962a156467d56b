"""The geometry of editing."""

from __future__ import annotations

import numpy as np
import pytest

from services.editing.canvas import Canvas, Margins, frame_size


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)


def paint_all(canvas: Canvas, side: int = 64, value: int = 0) -> int:
    """Paint every frame with one colour; returns how many it took."""
    frames = canvas.plan()
    for frame in frames:
        pixels, keep = canvas.view(frame, side)
        assert pixels.shape == (side, side, 3)
        assert keep.shape == (side, side)
        canvas.paint(frame, np.full((side, side, 3), value, np.uint8))
    return len(frames)


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (37, 100), (300, 200), (1, 1), (5, 400)])
def test_known_pixels_stay_bit_by_bit(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    hole = np.zeros(size, np.bool_)
    hole[
        size[0] // 3 : size[0] // 3 + max(1, size[0] // 3), size[1] // 4 : size[1] // 4 + max(1, size[1] // 2)
    ] = True
    canvas = Canvas(pixels, hole)
    paint_all(canvas)
    np.testing.assert_array_equal(canvas.pixels[~hole], pixels[~hole])
    assert (canvas.pixels[hole] == 0).all()


@pytest.mark.parametrize(
    "margins",
    [
        Margins(32, 0, 0, 0),
        Margins(0, 0, 0, 50),
        Margins(200, 10, 300, 0),
        Margins(7, 9, 11, 13),
        Margins(0, 640, 0, 0),
    ],
)
def test_outpainting_paints_the_whole_border_and_keeps_the_picture(margins: Margins) -> None:
    pixels = noise(64, 96)
    canvas = Canvas.extended(pixels, margins)
    assert canvas.pixels.shape[:2] == (64 + margins.top + margins.bottom, 96 + margins.left + margins.right)
    outside = canvas.hole.copy()
    paint_all(canvas)
    assert not canvas.hole.any()
    assert (canvas.pixels[outside] == 0).all()
    inside = canvas.pixels[margins.top : margins.top + 64, margins.left : margins.left + 96]
    np.testing.assert_array_equal(inside, pixels)


def test_frames_overlap_what_is_known() -> None:
    canvas = Canvas.extended(noise(64, 64), Margins(0, 0, 256, 0))
    shares = []
    for frame in canvas.plan():
        shares.append(1 - canvas.hole[frame.window].mean())
        canvas.paint(frame, np.zeros((64, 64, 3), np.uint8))
    assert min(shares) >= 0.5
    assert len(shares) == 8


def test_a_hole_that_fits_a_frame_takes_one() -> None:
    hole = np.zeros((64, 200), np.bool_)
    hole[20:40, 90:110] = True
    canvas = Canvas(noise(64, 200), hole)
    frame = canvas.plan()[0]
    assert abs(frame.x + 32 - 100) <= 8
    assert paint_all(canvas) == 1


def test_only_wholly_known_pixels_are_shown_as_kept() -> None:
    hole = np.zeros((128, 128), np.bool_)
    hole[33:, :] = True
    canvas = Canvas(noise(128, 128), hole)
    frame = canvas.plan()[0]
    _, keep = canvas.view(frame, 64)
    assert (keep[:16] == 255).all()
    assert (keep[16:] == 0).all()


def test_scaling_keeps_the_shape_and_covers_the_hole() -> None:
    hole = np.zeros((300, 200), np.bool_)
    hole[150, 100] = True
    scaled = Canvas(noise(300, 200), hole).scaled(64)
    assert scaled.pixels.shape == (96, 64, 3)
    assert scaled.hole.any()


@pytest.mark.parametrize(("shorter", "size"), [(60, 256), (256, 256), (384, 256), (400, 1024), (2000, 1024)])
def test_frames_are_painted_at_a_size_that_fits(shorter: int, size: int) -> None:
    assert frame_size(shorter, (64, 256, 1024)) == size


def test_what_is_outside_the_hole_keeps_its_alpha_and_what_is_painted_is_opaque() -> None:
    pixels = noise(64, 64)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:10] = 0
    alpha[30:40] = 77
    hole = np.zeros((64, 64), np.bool_)
    hole[35:50, 20:40] = True
    canvas = Canvas(pixels, hole, alpha)
    paint_all(canvas)
    result = canvas.result
    np.testing.assert_array_equal(result[~hole], np.dstack([pixels, alpha])[~hole])
    assert (result[hole] == (0, 0, 0, 255)).all()


def test_the_decoder_is_shown_transparency_on_white() -> None:
    canvas = Canvas.extended(
        np.zeros((32, 32, 3), np.uint8), Margins(32, 0, 0, 0), np.zeros((32, 32), np.uint8)
    )
    shown, keep = canvas.view(canvas.plan()[0], 32)
    assert (shown[keep == 255] == 255).all()


def test_a_plan_is_made_once_and_painted_on_copies() -> None:
    canvas = Canvas.extended(noise(64, 64), Margins(0, 0, 100, 0))
    frames = canvas.plan()
    first = canvas.copy()
    second = canvas.copy()
    for frame in frames:
        first.paint(frame, np.zeros((64, 64, 3), np.uint8))
    assert not first.hole.any()
    assert second.hole.any()
    assert canvas.plan() == frames
