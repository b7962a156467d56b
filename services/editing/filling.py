"""What is known of a picture, carried on into what is not: smooth, and without a trace of what is hidden.

Push and pull (Gortler et al., The Lumigraph, section 3.4): a pyramid of means of what is known, whose coarser
levels fill the finer ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.editing.pictures import Mask, Pixels

LARGEST = 512  # px: holes of larger pictures are filled at that size
Size = tuple[int, int]  # width, height
Values = npt.NDArray[np.float32]


def filled(pixels: Pixels, hole: Mask, size: Size | None = None) -> Pixels:
    """(H, W, 3), whose hole (H, W) is filled with the colours around it.

    size: reduced to that; the mean of an area is that of what is known in it.
    """
    height, width = hole.shape
    if size is not None:
        return _rounded(_spread(*_means(pixels, ~hole, size)))
    scale = min(1.0, LARGEST / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    around = Image.fromarray(_rounded(_spread(*_means(pixels, ~hole, small))))
    result = pixels.copy()
    result[hole] = np.asarray(around.resize((width, height), Image.Resampling.BILINEAR))[hole]
    return result


def _enlarged(values: npt.NDArray[np.floating], size: Size) -> Values:
    """(h, w) at a larger size."""
    return _resized(values, size, Image.Resampling.BILINEAR)


def _means(values: npt.NDArray[np.number], known: Mask, size: Size) -> tuple[Values, Values]:
    """At another size: the means of what is known in each place (h, w, C), and how much that is (h, w)."""
    share = _resized(known, size, Image.Resampling.BOX)
    channels = [_resized(values[..., i] * known, size, Image.Resampling.BOX) for i in range(values.shape[-1])]
    means = np.stack(channels, axis=-1) / np.maximum(share, np.float32(1e-6))[..., None]
    return means.astype(np.float32), share


def _spread(values: Values, known: Values) -> Values:
    """Values (h, w, C), which are known to a share (h, w); for the rest they are as those around them."""
    height, width = known.shape
    if known.min() >= 1 or (height, width) == (1, 1):
        return values * (known > 0)[..., None]
    half = (-(-width // 2), -(-height // 2))
    share = _resized(known, half, Image.Resampling.BILINEAR)
    sums = [
        _resized(values[..., i] * known, half, Image.Resampling.BILINEAR) for i in range(values.shape[-1])
    ]
    means = np.stack(sums, axis=-1) / np.maximum(share, np.float32(1e-9))[..., None]
    coarse = _spread(means.astype(np.float32), np.minimum(4 * share, 1))
    around = np.stack([_enlarged(coarse[..., i], (width, height)) for i in range(values.shape[-1])], axis=-1)
    mixed: Values = known[..., None] * values + (1 - known[..., None]) * around
    return mixed


def _resized(values: npt.NDArray[np.generic], size: Size, method: Image.Resampling) -> Values:
    channel = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(channel if channel.size == size else channel.resize(size, method))


def _rounded(values: Values) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)
