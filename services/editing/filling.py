"""What is known of a picture, carried on into what is not: smooth, and without a trace of what is hidden.

Push and pull (Gortler et al., The Lumigraph, section 3.4): a pyramid of means of what is known, whose coarser
levels fill the finer ones. Pillow's premultiplied colours make the means.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from services.editing.pictures import Mask, Pixels

Size = tuple[int, int]  # width, height
Values = npt.NDArray[np.float32]


def filled(pixels: Pixels, hole: Mask, size: Size | None = None) -> Pixels:
    """(H, W, 3), whose hole (H, W) is filled with the colours around it.

    size: reduced to that first, so that it costs less. The mean of an area is that of what is known in it.
    """
    known = Image.fromarray(np.dstack([pixels, np.where(hole, 0, 255).astype(np.uint8)]))
    if size is not None and size != known.size:
        known = _reduced(known, size)
    return np.asarray(_filled(known).convert("RGB"))


def difference_in_tone(first: Pixels, second: Pixels, known: Mask, cell: int) -> Values:
    """first - second in means of ``cell`` px, carried on from where it is known.

    (H / cell, W / cell, 3), rounded up.
    """
    height, width = known.shape
    size = (-(-width // cell), -(-height // cell))
    tones = [filled(pixels, ~known, size).astype(np.float32) for pixels in (first, second)]
    return tones[0] - tones[1]


def nearness(known: Mask, reach: float) -> Values:
    """How near places are to what is known, (H, W): 1 there and at its border, 0 well beyond ``reach`` px."""
    blurred = Image.fromarray(known.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(reach))
    return np.minimum(np.asarray(blurred, np.float32) * np.float32(2 / 255), 1)


def enlarged(values: npt.NDArray[np.floating], size: Size) -> Values:
    """(h, w) at a larger size."""
    channel = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(channel.resize(size, Image.Resampling.BILINEAR))


def _filled(picture: Image.Image) -> Image.Image:
    """An RGBA picture, opaque. What is transparent has the colours around it."""
    if picture.size == (1, 1) or picture.getchannel("A").getextrema() == (255, 255):
        return picture
    half = (-(-picture.width // 2), -(-picture.height // 2))
    around = _filled(_reduced(picture, half)).resize(picture.size, Image.Resampling.BILINEAR)
    around.putalpha(255)
    return Image.alpha_composite(around, picture)


def _reduced(picture: Image.Image, size: Size) -> Image.Image:
    """An RGBA picture at a smaller size: mean colours of what is not transparent, and how much that is."""
    return picture.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
