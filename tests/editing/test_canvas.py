"""The canvas: what the decoder is shown of it, and how what it paints is put in."""

from __future__ import annotations

import numpy as np
import pytest

from services.editing.canvas import Canvas, Margins, softened
from services.editing.filling import filled
from services.editing.frames import Frame, plan


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)


def plain(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def paint_all(canvas: Canvas, side: int = 64, value: int = 0) -> None:
    """Paint every frame with one colour."""
    for frame in plan(canvas.hole, 64):
        pixels, keep = canvas.view(frame, side)
        assert pixels.shape == (side, side, 3)
        assert keep.shape == (side, side)
        canvas.paint(frame, plain(side, side, value))


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (37, 100), (300, 200), (1, 1), (5, 40)])
def test_known_pixels_stay_bit_by_bit(size: tuple[int, int]) -> None:
    height, width = size
    pixels = noise(*size)
    hole = np.zeros(size, np.bool_)
    top, left = height // 3, width // 4
    hole[top : top + max(1, height // 3), left : left + max(1, width // 2)] = True
    canvas = Canvas(pixels, hole)
    paint_all(canvas)
    np.testing.assert_array_equal(canvas.pixels[~hole], pixels[~hole])
    deep = softened(hole, 4) == 1
    assert (canvas.pixels[deep] <= 8).all()  # a frame that follows another has a soft edge towards it, too
    assert not canvas.hole.any()


def test_the_edge_of_a_hole_is_soft_on_its_inside() -> None:
    hole = np.zeros((200, 200), np.bool_)
    hole[60:140, 100:] = True
    canvas = Canvas(plain(200, 200, 200), hole)
    canvas.paint(Frame(0, 0, 200), plain(64, 64, 0))
    row = canvas.pixels[100, :, 0].astype(int)
    assert (row[:100] == 200).all()
    assert 150 < row[100] < 200
    assert (np.diff(row[99:110]) <= 0).all()
    assert np.abs(np.diff(row)).max() < 60
    assert (row[105:] == 0).all()  # past the picture's edge nothing is known, so that edge is as painted


def test_nothing_of_a_hole_is_softened_where_it_ends_with_its_frame() -> None:
    hole = np.zeros((100, 100), np.bool_)
    hole[:, 50:] = True
    share = softened(hole, 5)
    assert (share[~hole] == 0).all()
    assert (share[:, 55:] == 1).all()
    assert (np.diff(share[:, 50:56], axis=1) > 0).all()


@pytest.mark.parametrize("thickness", [1, 3, 8, 16])
def test_a_narrow_hole_is_painted_too(thickness: int) -> None:
    hole = np.zeros((480, 480), np.bool_)
    hole[200 : 200 + thickness, 90:390] = True
    canvas = Canvas(plain(480, 480, 200), hole)
    canvas.paint(Frame(0, 0, 480), plain(64, 64, 0))
    assert canvas.pixels[200 + thickness // 2, 240, 0] < 40
    assert (canvas.pixels[~hole] == 200).all()


def test_colours_under_transparent_pixels_do_not_come_out_beside_a_hole() -> None:
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, 20:] = 0
    pixels = plain(64, 64, 200)
    pixels[:, 20:] = 0  # black, but nobody sees it
    canvas = Canvas.extended(pixels, Margins(0, 0, 64, 0), alpha)
    canvas.paint(Frame(64, 0, 64), plain(64, 64, 255))
    assert (canvas.pixels[:, 64:] == 255).all()


@pytest.mark.parametrize("border", [48, 64, 70, 128])
def test_a_hole_is_filled_with_the_colours_beside_its_border_wherever_that_is(border: int) -> None:
    """A pyramid of squares would take the mean of half a picture where border and squares meet."""
    across = np.linspace(0, 250, 256)
    pixels = np.repeat(np.repeat(across[None, :, None], 256, 0), 3, 2).astype(np.uint8)
    hole = np.zeros((256, 256), np.bool_)
    hole[:, border:] = True
    found = filled(pixels, hole)[128, :, 0].astype(int)
    assert abs(found[border] - found[border - 1]) <= 8


@pytest.mark.parametrize(
    "margins",
    [Margins(32, 0, 0, 0), Margins(0, 0, 0, 50), Margins(200, 10, 300, 0), Margins(7, 9, 11, 13)],
)
def test_outpainting_paints_the_whole_border_and_keeps_the_picture(margins: Margins) -> None:
    pixels = noise(64, 96)
    canvas = Canvas.extended(pixels, margins)
    assert canvas.pixels.shape[:2] == (64 + margins.top + margins.bottom, 96 + margins.left + margins.right)
    paint_all(canvas)
    assert not canvas.hole.any()
    inside = canvas.pixels[margins.top : margins.top + 64, margins.left : margins.left + 96]
    np.testing.assert_array_equal(inside, pixels)


@pytest.mark.parametrize("side", [64, 100, 256])
def test_nothing_rings_into_what_is_known(side: int) -> None:
    """Resampling used to carry the hole's zeros over the border: a bright rim."""
    canvas = Canvas.extended(plain(100, 100, 200), Margins(0, 0, 50, 0))
    shown, keep = canvas.view(Frame(50, 0, 100), side)
    assert (shown[keep == 255] == 200).all()
    assert np.abs(shown.astype(int) - 200).max() <= 2  # the hole has the colours around it, too
    assert (keep == 255).sum() == side * (side // 2)


@pytest.mark.parametrize("side", [32, 64, 256])
def test_what_the_hole_hides_is_not_seen(side: int) -> None:
    hole = np.zeros((64, 64), np.bool_)
    hole[13:40, 17:50] = True
    views = []
    for hidden in (0, 255):
        pixels = noise(64, 64)
        pixels[hole] = hidden
        canvas = Canvas(pixels, hole)
        views.append((*canvas.view(Frame(0, 0, 64), side), canvas.scaled(48).pixels))
    for one, other in zip(*views, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_wholly_known_pixels_are_shown_as_kept() -> None:
    hole = np.zeros((128, 128), np.bool_)
    hole[33:, :] = True
    _, keep = Canvas(noise(128, 128), hole).view(Frame(0, 0, 128), 64)
    assert (keep[:16] == 255).all()
    assert (keep[16:] == 0).all()


def test_scaling_keeps_the_shape_and_covers_the_hole() -> None:
    hole = np.zeros((300, 200), np.bool_)
    hole[150, 100] = True
    scaled = Canvas(noise(300, 200), hole).scaled(64)
    assert scaled.pixels.shape == (96, 64, 3)
    assert scaled.hole.any()


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
    assert (result[hole][:, 3] == 255).all()


def test_the_decoder_is_shown_transparency_on_white() -> None:
    canvas = Canvas.extended(plain(32, 32, 0), Margins(32, 0, 0, 0), np.zeros((32, 32), np.uint8))
    shown, keep = canvas.view(Frame(16, 0, 32), 32)
    assert (shown[keep == 255] == 255).all()


def test_a_plan_is_made_once_and_painted_on_copies() -> None:
    canvas = Canvas.extended(noise(64, 64), Margins(0, 0, 100, 0))
    first = canvas.copy()
    second = canvas.copy()
    for frame in plan(canvas.hole, 64):
        first.paint(frame, plain(64, 64, 0))
    assert not first.hole.any()
    assert second.hole.any()
