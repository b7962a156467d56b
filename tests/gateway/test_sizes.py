"""The sizes that models make, and the way to each."""

from __future__ import annotations

import pytest

from gateway.sizes import Sizes

CASCADE = Sizes((64, 256, 1024), (64,), 256)
NATIVE = Sizes(tuple(range(256, 1025, 64)), tuple(range(256, 1025, 64)), 512)
ALONE = Sizes((64,), (64,), 64)


@pytest.mark.parametrize(("frame", "size"), [(60, 256), (256, 256), (384, 256), (400, 1024), (2000, 1024)])
def test_frames_are_painted_at_a_raised_size_that_fits(frame: int, size: int) -> None:
    assert CASCADE.frame(frame) == size


@pytest.mark.parametrize(("frame", "size"), [(128, 512), (700, 512), (800, 576), (5000, 1024)])
def test_without_upsamplers_no_frame_is_smaller_than_the_model_is_made_for(frame: int, size: int) -> None:
    assert NATIVE.frame(frame) == size
    assert ALONE.frame(frame) == 64


def test_the_way_to_a_size_goes_through_those_below_it() -> None:
    assert CASCADE.way(1024) == (64, 256, 1024)
    assert CASCADE.way(64) == (64,)
    assert NATIVE.way(640) == (640,)
