"""Masks: which pixels of a picture are to be painted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from services.editing.errors import PictureError
from services.editing.pictures import Mask

MaskKind = Literal["any", "alpha", "luminance"]
# A mask that is black and white but for so small a transparent share is meant by its brightness.
STRAY_ALPHA = 0.01


def read_hole(mask: Image.Image | None, picture: Image.Image, kind: MaskKind = "any") -> Mask:
    """Where to paint, (H, W), of two RGBA pictures of one size. Raises PictureError if that is nowhere.

    A mask's transparent pixels are painted, or its white ones: by its kind or, for "any", by what it is made
    of. Without a mask, the picture's own transparent pixels are.
    """
    if mask is None:
        hole = np.asarray(picture.getchannel("A")) < 128
        if not hole.any():
            raise PictureError("is required, as the picture has no transparent pixels to paint")
        return hole
    clear = np.asarray(mask.getchannel("A")) < 128
    bright = np.asarray(mask.convert("L")) > 127
    by_alpha = kind == "alpha" or (kind == "any" and _is_alpha_mask(mask, clear, bright))
    hole = clear if by_alpha else bright
    if not hole.any():
        what = "transparent" if by_alpha else "white"
        raise PictureError(f"has nothing to paint: {what} pixels are painted, and it has none")
    return hole


def _is_alpha_mask(mask: Image.Image, clear: Mask, bright: Mask) -> bool:
    """Whether transparency is what a mask is made of.

    It is not for a black and white mask with a few clear pixels.
    """
    if not clear.any():
        return False
    grey = np.asarray(mask.convert("L"))[~clear]
    black_and_white = bool(((grey < 16) | (grey > 239)).all()) and bool(bright[~clear].any())
    return not (black_and_white and clear.mean() < STRAY_ALPHA)
