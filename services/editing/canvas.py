"""The geometry of editing: a picture with a hole, painted frame by frame.

Inpainting and outpainting are one thing here: a canvas, of which some pixels are known. The decoder sees
square frames of it. Every frame overlaps what is known, and what it paints is known to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.editing.pictures import Mask, Pixels, flattened

POSITIONS = 16  # candidate places of a frame for each of its sides along the canvas
MIN_KNOWN = 0.5  # of a frame, where the canvas offers that much


@dataclass(frozen=True)
class Margins:
    """Pixels added at each side."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Frame:
    """A square of the canvas, in its pixels."""

    x: int
    y: int
    side: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y, self.y + self.side), slice(self.x, self.x + self.side)


class Canvas:
    """Pixels (H, W, 3), the hole in them (H, W), and how opaque they are (H, W), if not all are.

    Known pixels never change, alpha included; the hole shrinks as it is painted, and what is painted is
    opaque.
    """

    def __init__(self, pixels: Pixels, hole: Mask, alpha: Pixels | None = None) -> None:
        self.pixels = pixels.copy()
        self.hole = hole.copy()
        self.alpha = None if alpha is None else alpha.copy()

    @classmethod
    def extended(cls, pixels: Pixels, margins: Margins, alpha: Pixels | None = None) -> Canvas:
        """A picture with room around it: the hole is everything but the picture."""
        height, width = pixels.shape[:2]
        size = (margins.top + height + margins.bottom, margins.left + width + margins.right)
        canvas = np.zeros((*size, 3), np.uint8)
        hole = np.ones(size, np.bool_)
        inside = slice(margins.top, margins.top + height), slice(margins.left, margins.left + width)
        canvas[inside] = pixels
        hole[inside] = False
        if alpha is None:
            return cls(canvas, hole)
        extended_alpha = np.full(size, 255, np.uint8)
        extended_alpha[inside] = alpha
        return cls(canvas, hole, extended_alpha)

    def copy(self) -> Canvas:
        """Another one, to paint on."""
        return Canvas(self.pixels, self.hole, self.alpha)

    def scaled(self, shorter_side: int) -> Canvas:
        """The canvas at another size, its shorter side as given."""
        height, width = self.hole.shape
        size = scaled_size(width, height, shorter_side)
        if size == (width, height):
            return self
        pixels = np.asarray(Image.fromarray(self.pixels).resize(size, Image.Resampling.LANCZOS))
        hole = np.asarray(Image.fromarray(self.hole).convert("L").resize(size, Image.Resampling.BILINEAR)) > 0
        if self.alpha is None:
            return Canvas(pixels, hole)
        return Canvas(
            pixels, hole, np.asarray(Image.fromarray(self.alpha).resize(size, Image.Resampling.BILINEAR))
        )

    def plan(self) -> list[Frame]:
        """The frames to paint, in order, until nothing of the hole is left.

        A frame is as large as the canvas allows. The next one is where at least half is known (or as much as
        there is), of these where it closes most of the hole, and of these the one nearest to the hole's
        middle.
        """
        hole = self.hole.copy()
        frames = []
        while hole.any():
            frames.append(_next_frame(hole))
            hole[frames[-1].window] = False
        return frames

    def view(self, frame: Frame, side: int) -> tuple[Pixels, Pixels]:
        """What the decoder is shown of a frame.

        (side, side, 3), on white, and (side, side), 255 where wholly known.
        """
        pixels = self.pixels[frame.window]
        hole = self.hole[frame.window]
        if self.alpha is not None:
            pixels = np.asarray(flattened(Image.fromarray(np.dstack([pixels, self.alpha[frame.window]]))))
        method = Image.Resampling.BOX if frame.side > side else Image.Resampling.BICUBIC
        shown = np.asarray(Image.fromarray(pixels).resize((side, side), method))
        keep = Image.fromarray((~hole).astype(np.uint8) * 255).resize((side, side), method)
        return shown, np.where(np.asarray(keep) == 255, 255, 0).astype(np.uint8)

    def paint(self, frame: Frame, painted: Pixels) -> None:
        """Fill the frame's part of the hole from (s, s, 3); known pixels stay, bit by bit."""
        hole = self.hole[frame.window]
        scaled = np.asarray(
            Image.fromarray(painted).resize((frame.side, frame.side), Image.Resampling.BICUBIC)
        )
        self.pixels[frame.window][hole] = scaled[hole]
        if self.alpha is not None:
            self.alpha[frame.window][hole] = 255
        self.hole[frame.window] = False

    @property
    def result(self) -> Pixels:
        """(H, W, 3), or (H, W, 4) where some of it is not opaque."""
        if self.alpha is None or (self.alpha == 255).all():
            return self.pixels
        return np.dstack([self.pixels, self.alpha])


def frame_size(shorter_side: int, sizes: tuple[int, ...]) -> int:
    """The side in px at which the decoder paints a canvas's frames, one of ``sizes`` (smallest first).

    The base size is too coarse where there is a larger one. Of the larger ones it is the first that covers
    the frame when it is enlarged by half at most; else the largest.
    """
    return next((size for size in sizes[1:] if 1.5 * size >= shorter_side), sizes[-1])


def scaled_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """(width, height) in px when the shorter side is scaled to ``shorter_side``."""
    scale = shorter_side / min(height, width)
    return max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale))


def _next_frame(hole: Mask) -> Frame:
    middle_y, middle_x = (_middle(hole.sum(axis)) for axis in (1, 0))
    # A table of sums over all windows from the origin gives any window's in four look-ups.
    height, width = hole.shape
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(hole, 0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], 1, out=sums[1:, 1:])

    def merit(frame: Frame) -> tuple[float, float, float]:
        x, y, side = frame.x, frame.y, frame.side
        hidden = float(sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x])
        off_centre = abs(x + side / 2 - middle_x) + abs(y + side / 2 - middle_y)
        known = 1 - hidden / side**2
        return (min(known, MIN_KNOWN) if hidden else -1.0, hidden, -off_centre)

    return max(_candidates(hole), key=merit)


def _middle(counts: npt.NDArray[np.integer]) -> float:
    """The mean index, each counted as often as it says."""
    return float(np.average(np.arange(len(counts)), weights=counts))


def _candidates(hole: Mask) -> list[Frame]:
    height, width = hole.shape
    side = min(height, width)
    stride = max(1, side // POSITIONS)
    return [
        Frame(x, y, side)
        for y in sorted({*range(0, height - side, stride), height - side})
        for x in sorted({*range(0, width - side, stride), width - side})
    ]
