"""The sizes that models make, and the way to each."""

from __future__ import annotations

import pytest

from gateway.sizes import Shape, Sizes, square

CASCADE = Sizes((64, 256, 1024), (64,), 256)
NATIVE = Sizes(tuple(range(256, 1025, 64)), tuple(range(256, 1025, 64)), 512, multiple=64)
ALONE = Sizes((64,), (64,), 64)


@pytest.mark.parametrize(("frame", "size"), [(60, 256), (256, 256), (384, 256), (400, 1024), (2000, 1024)])
def test_frames_are_painted_at_a_raised_size_that_fits(frame: int, size: int) -> None:
    assert CASCADE.frame(frame) == size


@pytest.mark.parametrize(("frame", "size"), [(128, 512), (700, 512), (800, 576), (5000, 1024)])
def test_without_upsamplers_no_frame_is_smaller_than_the_model_is_made_for(frame: int, size: int) -> None:
    assert NATIVE.frame(frame) == size
    assert ALONE.frame(frame) == 64


def test_the_way_to_a_size_goes_through_those_below_it() -> None:
    assert CASCADE.way(square(1024)) == (64, 256, 1024)
    assert CASCADE.way(square(64)) == (64,)
    assert NATIVE.way(square(640)) == (640,)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (Shape(768, 512), ""),
        (Shape(2048, 512), ""),
        (Shape(700, 512), "multiple of 64"),
        (Shape(768, 192), "at least 256"),
        (Shape(2048, 576), "at most 1048576 pixels"),
    ],
)
def test_shapes_that_are_not_square(shape: Shape, reason: str) -> None:
    assert reason in NATIVE.problem(shape)
    assert bool(NATIVE.problem(shape)) == bool(reason)
    assert "squares only" in CASCADE.problem(shape)


def test_a_picture_that_is_not_square_costs_what_a_square_of_its_pixels_does() -> None:
    assert NATIVE.way(Shape(768, 512)) == (640,)
    assert NATIVE.drawn_for(Shape(768, 512)) == (768, 512)
    assert CASCADE.drawn_for(square(100)) == (256, 256)
