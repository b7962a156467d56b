"""The geometry of editing: a picture with a hole, painted frame by frame.

Inpainting and outpainting are one thing here: a canvas, of which some pixels are known. The decoder sees square
frames of it; every frame overlaps what is known, and what it paints is known to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.editing.pictures import Mask, Pixels

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
    """Pixels (H, W, 3) and the hole in them (H, W). Known pixels never change; the hole shrinks as it is painted."""

    def __init__(self, pixels: Pixels, hole: Mask) -> None:
        self.pixels, self.hole = pixels.copy(), hole.copy()

    @classmethod
    def extended(cls, pixels: Pixels, margins: Margins) -> Canvas:
        """A picture with room around it: the hole is everything but the picture."""
        height, width = pixels.shape[:2]
        size = (margins.top + height + margins.bottom, margins.left + width + margins.right)
        canvas, hole = np.zeros((*size, 3), np.uint8), np.ones(size, np.bool_)
        inside = slice(margins.top, margins.top + height), slice(margins.left, margins.left + width)
        canvas[inside], hole[inside] = pixels, False
        return cls(canvas, hole)

    def scaled(self, shorter_side: int) -> Canvas:
        """The canvas at another size, its shorter side as given."""
        height, width = self.hole.shape
        scale = shorter_side / min(height, width)
        size = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
        if size == (width, height):
            return self
        pixels = np.asarray(Image.fromarray(self.pixels).resize(size, Image.Resampling.LANCZOS))
        hole = np.asarray(Image.fromarray(self.hole).convert("L").resize(size, Image.Resampling.BILINEAR)) > 0
        return Canvas(pixels, hole)

    def frame_size(self, sizes: tuple[int, ...]) -> int:
        """Of the sizes that can be painted, smallest first, the one to paint frames at: past the base size, the first
        that need not be enlarged by more than half."""
        return next((size for size in sizes[1:] if 1.5 * size >= min(self.hole.shape)), sizes[-1])

    def next_frame(self) -> Frame | None:
        """The frame to paint next; None when the hole is gone.

        A frame is as large as the canvas allows. The next one is where at least half is known (or as much as there
        is), of these where it closes most of the hole, and of these the one nearest to the hole's middle.
        """
        rows, columns = np.nonzero(self.hole)
        if not len(rows):
            return None
        middle_x, middle_y = float(columns.mean()), float(rows.mean())
        # A table of sums over all windows from the origin gives any window's in four look-ups.
        sums = np.pad(self.hole.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))

        def merit(frame: Frame) -> tuple[float, float, float]:
            x, y, side = frame.x, frame.y, frame.side
            hidden = float(sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x])
            off_centre = abs(x + side / 2 - middle_x) + abs(y + side / 2 - middle_y)
            known = 1 - hidden / side**2
            return (min(known, MIN_KNOWN) if hidden else -1.0, hidden, -off_centre)

        return max(self._candidates(), key=merit)

    def _candidates(self) -> list[Frame]:
        height, width = self.hole.shape
        side = min(height, width)
        stride = max(1, side // POSITIONS)
        return [
            Frame(x, y, side)
            for y in sorted({*range(0, height - side, stride), height - side})
            for x in sorted({*range(0, width - side, stride), width - side})
        ]

    def view(self, frame: Frame, side: int) -> tuple[Pixels, Pixels]:
        """What the decoder is shown of a frame: (side, side, 3) and (side, side), 255 where wholly known."""
        pixels, hole = self.pixels[frame.window], self.hole[frame.window]
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
        self.hole[frame.window] = False
