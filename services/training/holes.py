"""Random holes for joint inpainting: rectangles, strokes, borders and half-planes; mostly no picture is known at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from services.training import loop

Mask = npt.NDArray[np.float32]


def draw_keep(rng: np.random.Generator, count: int, side: int, all_hidden: float) -> torch.Tensor:
    """Masks of what is known for a batch: (B, 1, side, side)."""
    masks = [sample_keep(rng, side, all_hidden=all_hidden) for _ in range(count)]
    return torch.from_numpy(np.stack(masks))[:, None].to(loop.device())


def sample_keep(rng: np.random.Generator, side: int, *, all_hidden: float) -> Mask:
    """What is kept of a picture, shape (side, side), 1 = known; nothing at all with probability ``all_hidden``."""
    if rng.random() < all_hidden:
        return np.zeros((side, side), np.float32)
    painter = (_rectangle, _strokes, _border, _half_plane)[rng.integers(4)]
    return painter(rng, side)


def _rectangle(rng: np.random.Generator, side: int) -> Mask:
    keep = np.ones((side, side), np.float32)
    w, h = (rng.uniform(0.35, 0.95, 2) * side).astype(int)
    x, y = int(rng.integers(0, side - w + 1)), int(rng.integers(0, side - h + 1))
    keep[y : y + h, x : x + w] = 0
    return keep


def _strokes(rng: np.random.Generator, side: int) -> Mask:
    canvas = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(canvas)
    points = [tuple(p) for p in rng.uniform(0.1, 0.9, (rng.integers(3, 7), 2)) * side]
    draw.line(points, fill=0, width=int(side * rng.uniform(0.15, 0.4)), joint="curve")
    return (np.asarray(canvas) > 127).astype(np.float32)


def _border(rng: np.random.Generator, side: int) -> Mask:
    keep = np.zeros((side, side), np.float32)
    left, top, right, bottom = (rng.uniform(0, 0.35, 4) * side).astype(int)
    keep[top : side - bottom, left : side - right] = 1
    return keep


def _half_plane(rng: np.random.Generator, side: int) -> Mask:
    keep = np.ones((side, side), np.float32)
    keep[:, int(side * rng.uniform(0.25, 0.75)) :] = 0
    return np.ascontiguousarray(np.rot90(keep, int(rng.integers(4))))
