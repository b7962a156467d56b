"""The geometry of editing: a picture with a hole, painted frame by frame.

Inpainting and outpainting are one thing here: a canvas, of which some pixels are known. The decoder sees
square frames of it. Every frame overlaps what is known, and what it paints is known to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from services.editing.filling import filled
from services.editing.frames import Frame
from services.editing.pictures import Mask, Pixels, flattened

# How wide the soft edge of a hole is, in parts of the side of the frame that it is painted in.
SOFT = 1 / 48


@dataclass(frozen=True)
class Margins:
    """Pixels added at each side."""

    left: int
    top: int
    right: int
    bottom: int


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
        whole = filled(self.pixels, self.hole)
        pixels = np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.LANCZOS))
        hole = np.asarray(Image.fromarray(self.hole).convert("L").resize(size, Image.Resampling.BILINEAR)) > 0
        if self.alpha is None:
            return Canvas(pixels, hole)
        return Canvas(
            pixels, hole, np.asarray(Image.fromarray(self.alpha).resize(size, Image.Resampling.BILINEAR))
        )

    def view(self, frame: Frame, side: int) -> tuple[Pixels, Pixels]:
        """What the decoder is shown of a frame.

        (side, side, 3), on white, and (side, side), 255 where wholly known. What the hole hides has no part
        in it: before it is resized, the hole is filled with what is around.
        """
        pixels = self._on_white(frame)
        hole = self.hole[frame.window]
        size = (side, side)
        if frame.side > side:
            shown = filled(pixels, hole, size)
        else:
            around = Image.fromarray(filled(pixels, hole))
            shown = np.asarray(around.resize(size, Image.Resampling.BICUBIC))
        covered = Image.fromarray(hole.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        return shown, np.where(np.asarray(covered) == 0, 255, 0).astype(np.uint8)

    def paint(self, frame: Frame, painted: Pixels) -> None:
        """Fill the frame's part of the hole from (s, s, 3); known pixels stay, bit by bit.

        The hole's edge is soft, on its inside: there the colours around it go over into the painted ones.
        """
        pixels = self.pixels[frame.window]
        hole = self.hole[frame.window]
        size = (frame.side, frame.side)
        scaled = np.asarray(Image.fromarray(painted).resize(size, Image.Resampling.BICUBIC))
        share = softened(hole, round(SOFT * frame.side))[hole][:, None]
        around = filled(self._on_white(frame), hole)[hole]
        pixels[hole] = (share * scaled[hole] + (1 - share) * around).round().astype(np.uint8)
        if self.alpha is not None:
            self.alpha[frame.window][hole] = 255
        self.hole[frame.window] = False

    def _on_white(self, frame: Frame) -> Pixels:
        """The frame's pixels, as they look on white where they are not opaque."""
        pixels = self.pixels[frame.window]
        if self.alpha is None:
            return pixels
        return np.asarray(flattened(Image.fromarray(np.dstack([pixels, self.alpha[frame.window]]))))

    @property
    def result(self) -> Pixels:
        """(H, W, 3), or (H, W, 4) where some of it is not opaque."""
        if self.alpha is None or (self.alpha == 255).all():
            return self.pixels
        return np.dstack([self.pixels, self.alpha])


def softened(hole: Mask, width: int) -> npt.NDArray[np.float32]:
    """How much of what is painted counts at each place of a hole (H, W).

    Beside a straight border that is 0 at the border and 1 from ``width`` px inside on; where the hole is too
    narrow for that, it is within less. Outside it is 0.
    """
    if width == 0:
        return hole.astype(np.float32)
    wide = _mean(_mean(hole, width) == 1, width) > 0  # where a square of 2 width + 1 px has room
    share: npt.NDArray[np.float32] = (2 * _mean(hole, width) - 1).clip(0, 1) * hole
    return share if (wide >= hole).all() else np.where(wide, share, softened(hole, width // 2))


def _mean(mask: Mask, width: int) -> npt.NDArray[np.float32]:
    """The share of each place's surroundings, ``width`` px in every direction, that is in a mask."""
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(width))
    return np.asarray(blurred, np.float32) / np.float32(255)


def scaled_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """(width, height) in px when the shorter side is scaled to ``shorter_side``."""
    scale = shorter_side / min(height, width)
    return max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale))
