"""Random holes for joint inpainting: rectangles, strokes, borders and half-planes, and those that callers make: over an
object, and past the border of a picture. Mostly no picture is known at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from services.training import loop
from services.training.data.scenes import Placement, Scene, moved, render

Mask = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
OVER_AN_OBJECT, PAST_THE_BORDER = 0.08, 0.10  # shares of the decoder's batch


def draw_keep(rng: np.random.Generator, count: int, side: int, all_hidden: float) -> torch.Tensor:
    """Masks of what is known for a batch: (B, 1, side, side)."""
    masks = [sample_keep(rng, side, all_hidden=all_hidden) for _ in range(count)]
    return torch.from_numpy(np.stack(masks))[:, None].to(loop.device())


def draw_edits(
    rng: np.random.Generator, pictures: Pictures, scenes: Sequence[Scene], all_hidden: float
) -> tuple[Pictures, torch.Tensor, list[Scene]]:
    """Pictures (B, side, side, 3) of these scenes, masks of what is known (B, 1, side, side) as ``draw_keep``, and the
    scenes, but for some rows.

    In these the hole is over one object, or the picture is a frame past the border of its scene: objects at its edge
    or cut by it, and only places without any to be painted.
    """
    side = pictures.shape[1]
    pictures, scenes, keep = pictures.copy(), list(scenes), draw_keep(rng, len(pictures), side, all_hidden)
    for row, kind in enumerate(rng.random(len(pictures))):
        if kind < OVER_AN_OBJECT:
            placements = scenes[row].placements
            keep[row, 0] = torch.from_numpy(_over(rng, placements[rng.integers(len(placements))], side))
        elif kind < OVER_AN_OBJECT + PAST_THE_BORDER:
            scenes[row], known = _past_the_border(rng, scenes[row], side)
            pictures[row], keep[row, 0] = render(scenes[row], side), torch.from_numpy(known)
    return pictures, keep, scenes


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


def _over(rng: np.random.Generator, place: Placement, side: int) -> Mask:
    """A hole a little larger than one object."""
    keep = np.ones((side, side), np.float32)
    keep[place.box(side, rng.uniform(1.0, 1.4, 4))] = 0
    return keep


def _past_the_border(rng: np.random.Generator, scene: Scene, side: int) -> tuple[Scene, Mask]:
    """The scene with its objects moved towards one edge, and the half-plane known that they end in."""
    dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[rng.integers(4)]
    shift = float(rng.uniform(0.3, 0.6))
    frame = moved(scene, -dx * shift, -dy * shift)
    end = max(dx * (p.x - 0.5) + dy * (p.y - 0.5) + 0.5 + p.side / 2 for p in frame.placements)
    border = round(side * min(0.85, max(0.3, end) + float(rng.uniform(0, 0.2))))
    keep = np.ones((side, side), np.float32)
    keep[:, border:] = 0
    return frame, np.ascontiguousarray(np.rot90(keep, {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}[dx, dy]))
