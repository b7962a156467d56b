"""What a mask means, however its maker drew it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from services.editing.errors import PictureError
from services.editing.masks import read_hole


def test_transparent_means_paint_here() -> None:
    picture = Image.new("RGBA", (8, 6), "red")
    mask = Image.new("RGBA", (8, 6), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (2, 1, 5, 4))
    hole = read_hole(mask.convert("RGBA"), picture)
    assert hole.sum() == 9
    assert hole[1:4, 2:5].all()


def test_white_means_paint_here_in_an_opaque_mask() -> None:
    mask = Image.new("L", (8, 6), 0)
    mask.paste(255, (0, 0, 4, 6))
    assert read_hole(mask.convert("RGBA"), Image.new("RGBA", (8, 6)))[:, :4].all()


def test_without_a_mask_the_pictures_own_transparency_counts() -> None:
    picture = Image.new("RGBA", (8, 6), "red")
    picture.putpixel((3, 3), (0, 0, 0, 0))
    assert read_hole(None, picture).sum() == 1


@pytest.mark.parametrize(
    ("mask", "says"),
    [(Image.new("L", (8, 6), 0), "white pixels"), (None, "is required")],
)
def test_masks_without_anything_to_paint_are_refused(mask: Image.Image | None, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        read_hole(None if mask is None else mask.convert("RGBA"), Image.new("RGBA", (8, 6), "red"))


def black_and_white(*odd: tuple[int, int, int, int]) -> Image.Image:
    """Half of it white, and odd pixels."""
    mask = Image.new("RGBA", (40, 40), "black")
    mask.paste("white", (0, 0, 20, 40))
    for i, colour in enumerate(odd):
        mask.putpixel((30, i), colour)
    return mask


@pytest.mark.parametrize("stray", [(0, 0, 0, 250), (0, 0, 0, 0), (255, 255, 255, 3)])
def test_one_stray_pixel_does_not_change_what_a_mask_means(stray: tuple[int, int, int, int]) -> None:
    hole = read_hole(black_and_white(stray), Image.new("RGBA", (40, 40), "red"))
    assert hole[:, :20].all()
    assert hole[1:, 20:].sum() == 0


def test_a_picture_with_a_small_clear_hole_is_a_mask_of_that_hole() -> None:
    rng = np.random.default_rng(0)
    mask = Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)).convert("RGBA")
    mask.paste((0, 0, 0, 0), (50, 50, 55, 55))
    assert read_hole(mask, Image.new("RGBA", (100, 100), "red")).sum() == 25


def test_the_kind_of_a_mask_can_be_said() -> None:
    mask = black_and_white((0, 0, 0, 0))
    picture = Image.new("RGBA", (40, 40), "red")
    assert read_hole(mask, picture, "alpha").sum() == 1
    assert read_hole(mask, picture, "luminance").sum() == 800
