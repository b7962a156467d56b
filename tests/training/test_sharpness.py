"""What an eye sees is what is measured: wide edges, lines along borders, soft texture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from services.training.evaluation.sharpness import (
    EDGE_WIDTH,
    TONE_WIDTH,
    border_ranks,
    edge_width,
    hole_ranks,
    texture_ratio,
)

KNOWN = np.arange(256) < 128


def blocks(seed: int = 0) -> np.ndarray:
    """(256, 256, 3): hard-edged squares of random colours."""
    colours = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return colours.repeat(32, 0).repeat(32, 1)


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def grass(seed: int, height: int = 256, width: int = 256) -> np.ndarray:
    """Noise around one colour."""
    return np.random.default_rng(seed).integers(80, 120, (height, width, 3), dtype=np.uint8)


def test_edges_are_as_wide_as_they_are_blurred() -> None:
    assert edge_width([blocks()]) == pytest.approx(0.8, abs=0.05)
    widths = [edge_width([blurred(blocks(), radius)]) for radius in (1, 2, 3)]
    assert widths == sorted(widths)
    assert widths[1] == pytest.approx(
        2 * 2.56, rel=0.15
    )  # a Gaussian's edge goes from 10 to 90 % in 2.56 sigma


def test_a_border_like_any_other_place_ranks_anywhere() -> None:
    ranks = [rank for seed in range(20) for rank in border_ranks(grass(seed), 128, KNOWN, EDGE_WIDTH)]
    assert 0.3 < np.mean(ranks) < 0.6  # what is too faint to be seen ranks last
    assert np.mean([rank > 0.9 for rank in ranks]) < 0.2


def test_a_faint_line_or_step_along_a_border_is_seen_though_each_pixel_hides_it() -> None:
    rim = grass(1)
    rim[:, 128:130] += 12  # noise is four times as strong
    assert np.mean([rank > 0.9 for rank in border_ranks(rim, 128, KNOWN, EDGE_WIDTH)]) > 0.7
    step = grass(2)
    step[:, 128:] += 6
    assert np.mean([rank > 0.9 for rank in border_ranks(step, 128, KNOWN, TONE_WIDTH)]) > 0.8


def test_lines_that_are_known_count_so_that_a_wall_of_bricks_hides_one() -> None:
    wall = blocks()
    assert np.mean([rank > 0.9 for rank in border_ranks(wall, 120, KNOWN, EDGE_WIDTH)]) == 0


def test_a_holes_borders_are_seen_on_all_four_sides_unless_it_fits() -> None:
    box = slice(64, 192), slice(96, 192)
    fits = grass(4)
    assert np.mean([rank > 0.9 for rank in hole_ranks(fits, box, TONE_WIDTH)]) < 0.25
    assert len(hole_ranks(fits, box, TONE_WIDTH)) == 2 * (128 + 96) // 32
    lighter = grass(4)
    lighter[box] += 6
    assert np.mean([rank > 0.9 for rank in hole_ranks(lighter, box, TONE_WIDTH)]) > 0.8


def test_a_holes_border_that_is_the_pictures_own_is_none() -> None:
    corner = slice(0, 128), slice(192, 256)
    assert len(hole_ranks(grass(5), corner, EDGE_WIDTH)) == (128 + 64) // 32


def test_soft_texture_is_told_from_like_texture() -> None:
    picture = grass(3)
    assert texture_ratio(picture, 128, True) == pytest.approx(1, abs=0.1)
    picture[:, 128:] = blurred(picture, 2)[:, 128:]
    assert texture_ratio(picture, 128, True) < 0.4
    assert texture_ratio(picture, 128, False) > 2.5
