"""Random holes for joint inpainting.

They are rectangles, strokes, borders and half-planes, and two kinds that callers ask for: over an object, and
past the border of a picture. In most rows nothing of the picture is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from services.training.data.placing import Placement
from services.training.data.scenes import Scene, moved, render

Mask = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
OVER_AN_OBJECT = 0.08  # share of the decoder's batch
# The reach of a hole over an object, over the object's own, at each side. If it is too little, objects are
# painted up to the border of their hole.
ROOM = (1.1, 1.6)
PAST_THE_BORDER = 0.10  # share of the decoder's batch


def draw_keep(rng: np.random.Generator, count: int, side: int, all_hidden: float) -> torch.Tensor:
    """Masks of what is known for a batch: (count, 1, side, side), 1 = known.

    all_hidden: the share of rows where nothing is known.
    """
    masks = [sample_keep(rng, side, all_hidden=all_hidden) for _ in range(count)]
    return torch.from_numpy(np.stack(masks))[:, None]


def draw_edits(
    rng: np.random.Generator, pictures: Pictures, scenes: Sequence[Scene], all_hidden: float
) -> tuple[Pictures, torch.Tensor, list[Scene]]:
    """Pictures with masks of what is known as ``draw_keep`` makes them, but with callers' holes in some rows.

    pictures: (B, side, side, 3), of the scenes. In some rows the hole is over one object. In others the scene
    is moved towards one edge, as in a picture that is extended past its border: objects are at that edge or
    cut by it, and what is to be painted has none. Returns the pictures, the masks (B, 1, side, side), and the
    scenes as they are then.
    """
    side = pictures.shape[1]
    pictures = pictures.copy()
    scenes = list(scenes)
    keep = draw_keep(rng, len(pictures), side, all_hidden)
    for row, kind in enumerate(rng.random(len(pictures))):
        if kind < OVER_AN_OBJECT:
            placements = scenes[row].placements
            keep[row, 0] = torch.from_numpy(_over(rng, placements[rng.integers(len(placements))], side))
        elif kind < OVER_AN_OBJECT + PAST_THE_BORDER:
            scenes[row], known = _past_the_border(rng, scenes[row], side)
            pictures[row] = render(scenes[row], side)
            keep[row, 0] = torch.from_numpy(known)
    return pictures, keep, scenes


def sample_keep(rng: np.random.Generator, side: int, *, all_hidden: float) -> Mask:
    """What is known of a picture, (side, side), 1 = known. all_hidden: how likely it is nothing at all."""
    if rng.random() < all_hidden:
        return np.zeros((side, side), np.float32)
    painter = (_rectangle, _strokes, _border, _half_plane)[rng.integers(4)]
    return painter(rng, side)


def _rectangle(rng: np.random.Generator, side: int) -> Mask:
    keep = np.ones((side, side), np.float32)
    w, h = (rng.uniform(0.35, 0.95, 2) * side).astype(int)
    x = int(rng.integers(0, side - w + 1))
    y = int(rng.integers(0, side - h + 1))
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
    keep[place.box(side, rng.uniform(*ROOM, 4))] = 0
    return keep


def _past_the_border(rng: np.random.Generator, scene: Scene, side: int) -> tuple[Scene, Mask]:
    """The scene with its objects moved towards one edge, and a mask: what they are in is known."""
    dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[rng.integers(4)]
    shift = float(rng.uniform(0.3, 0.6))
    frame = moved(scene, -dx * shift, -dy * shift)
    end = max(dx * (p.x - 0.5) + dy * (p.y - 0.5) + 0.5 + p.side / 2 for p in frame.placements)
    border = round(side * min(0.85, max(0.3, end) + float(rng.uniform(0, 0.2))))
    keep = np.ones((side, side), np.float32)
    keep[:, border:] = 0
    turns = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}[dx, dy]
    return frame, np.ascontiguousarray(np.rot90(keep, turns))
