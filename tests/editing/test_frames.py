"""Which squares of a canvas are painted: as large as the hole asks for, with enough known in each."""

from __future__ import annotations

import numpy as np
import pytest

from services.editing.errors import PictureError
from services.editing.frames import Frame, plan
from services.editing.pictures import Mask


def hole_of(height: int, width: int, *boxes: tuple[int, int, int, int]) -> Mask:
    """A hole made of boxes: left, top, right, bottom."""
    hole = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in boxes:
        hole[top:bottom, left:right] = True
    return hole


def around(height: int, width: int, left: int, top: int, right: int, bottom: int) -> Mask:
    """All but a box."""
    return ~hole_of(height, width, (left, top, right, bottom))


def known_shares(hole: Mask, frames: list[Frame]) -> list[float]:
    """How much of each frame is known when its turn comes; in the end all is painted."""
    left = hole.copy()
    shares = []
    for frame in frames:
        assert frame.x >= 0
        assert frame.y >= 0
        assert left[frame.window].shape == (frame.side, frame.side)
        assert left[frame.window].any()
        shares.append(float(1 - left[frame.window].mean()))
        left[frame.window] = False
    assert not left.any()
    return shares


def test_a_small_hole_in_a_large_picture_is_seen_from_near() -> None:
    """160 px of 1024 are 10 px of 64; in a frame of 256 px they are 40."""
    (frame,) = plan(hole_of(1024, 1024, (500, 300, 660, 460)), 8)
    assert frame.side == 256
    assert (frame.x, frame.y) == (452, 252)


def test_a_frame_is_never_smaller_than_what_there_is_to_see() -> None:
    (frame,) = plan(hole_of(1024, 1024, (0, 0, 1, 1)), 8)
    assert frame.side == 128
    (frame,) = plan(hole_of(50, 90, (40, 20, 41, 21)), 8)
    assert frame.side == 50


def test_a_large_hole_is_seen_as_a_whole() -> None:
    (frame,) = plan(hole_of(512, 512, (90, 90, 420, 420)), 8)
    assert frame.side == 512


def test_margins_are_painted_beside_what_is_known() -> None:
    hole = around(512, 768, 128, 0, 640, 512)
    frames = plan(hole, 8)
    assert len(frames) == 2
    assert min(known_shares(hole, frames)) >= 0.5


def test_wide_margins_are_painted_in_steps() -> None:
    hole = around(960, 960, 416, 416, 544, 544)
    frames = plan(hole, 64)
    assert min(known_shares(hole, frames)) >= 0.45
    assert frames[0].side < 200  # not all of the canvas, with a speck in its middle
    assert frames[-1].side > 400


def test_a_margin_that_is_much_longer_than_the_picture() -> None:
    hole = around(64, 320, 0, 0, 64, 64)
    shares = known_shares(hole, plan(hole, 24))
    assert min(shares) >= 0.5


def test_regions_that_are_far_apart_have_frames_of_their_own() -> None:
    apart = hole_of(1000, 1000, (10, 10, 60, 60), (875, 875, 1000, 1000))
    assert [frame.side for frame in plan(apart, 8)] == [200, 128]
    near = hole_of(1000, 1000, (400, 400, 450, 450), (460, 460, 520, 520))
    assert len(plan(near, 8)) == 1


def test_a_hole_in_very_many_pieces_is_taken_as_a_whole() -> None:
    specks = np.zeros((600, 900), np.bool_)
    specks[::40, ::40] = True
    frames = plan(specks, 8)
    assert len(frames) <= 3
    known_shares(specks, frames)


def test_what_takes_too_many_frames_is_refused() -> None:
    with pytest.raises(PictureError, match="more than 3 frames"):
        plan(around(960, 960, 416, 416, 544, 544), 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (400, 50), (64, 64), (90, 300)])
def test_a_canvas_of_which_nothing_is_known_is_painted_all_the_same(shape: tuple[int, int]) -> None:
    hole = np.ones(shape, np.bool_)
    known_shares(hole, plan(hole, 64))


@pytest.mark.parametrize("seed", range(8))
def test_any_hole_is_painted_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2)
    hole = rng.random((height, width)) < 0.002
    x, y = rng.integers(0, width), rng.integers(0, height)
    hole[y : y + 60, x : x + 90] = True
    known_shares(hole, plan(hole, 64))
