"""Which squares of a canvas are painted, and in which order.

A frame is a square that the decoder paints at its own scale, whatever the size of the canvas. It holds a part
of the hole and what is known around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.editing.errors import PictureError
from services.editing.pictures import Mask

# The side of a frame around a hole, over the hole's longer side. So what is painted is nearly as large to the
# decoder as what it draws in whole pictures.
CONTEXT = 1.6
MIN_SIDE = 128  # px; a smaller frame would show less than there is to see
MIN_KNOWN = 0.5  # of a frame, where the canvas offers that much
SHRINK = 0.8  # from one side that is tried to the next
POSITIONS = 16  # candidate places of a frame on each axis
CELLS = 128  # along the canvas, in which regions of the hole are told apart
MAX_REGIONS = 64  # of a hole; one in more pieces is taken as a whole


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


@dataclass(frozen=True)
class Box:
    """A rectangle of the canvas, in its pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def longer(self) -> int:
        """Its longer side."""
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def middle(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def joined(self, other: Box) -> Box:
        """The smallest that holds both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def meets(self, other: Box) -> bool:
        """Whether their frames would overlap."""
        reach = CONTEXT * max(self.longer, other.longer, MIN_SIDE / CONTEXT) / 2
        (x, y), (other_x, other_y) = self.middle, other.middle
        return abs(x - other_x) < reach and abs(y - other_y) < reach


def plan(hole: Mask, max_frames: int) -> list[Frame]:
    """The frames to paint, in order, until nothing of the hole is left. Raises PictureError for too many.

    Each region of the hole is painted by itself, unless that takes too many frames. What a frame paints is
    known to the next.
    """
    whole = _bounds(hole)
    for regions in (_regions(hole), [whole]):
        left = hole.copy()
        frames: list[Frame] = []
        for region in regions:
            while left[_window(region)].any() and len(frames) <= max_frames:
                frames.append(_next_frame(left, region))
                left[frames[-1].window] = False
        if len(frames) <= max_frames:
            return frames
    raise PictureError(f"has a hole that takes more than {max_frames} frames to paint; make it in steps")


def _next_frame(hole: Mask, region: Box) -> Frame:
    """The largest one, up to what the region asks for, in which enough is known; of these the best place."""
    sums = _sums(hole)
    best: tuple[float, Frame] | None = None
    for side in _sides(hole.shape, region):
        known, frame = _best_place(sums, region, side)
        if best is None or known > best[0] + 0.02:
            best = known, frame
        if known >= MIN_KNOWN:
            break
    assert best is not None
    return best[1]


def _sides(shape: tuple[int, ...], region: Box) -> Iterator[int]:
    """Sides to try, the largest first."""
    largest = min(shape)
    smallest = min(largest, MIN_SIDE)
    side = min(largest, max(smallest, round(CONTEXT * region.longer)))
    while True:
        yield side
        if side == smallest:
            return
        side = max(smallest, int(SHRINK * side))


def _best_place(sums: npt.NDArray[np.int32], region: Box, side: int) -> tuple[float, Frame]:
    """Of this side's frames that see some of the region, the one where enough is known and most is hidden.

    Of equal ones the one nearest to the region's middle. Returns how much of it is known, too.
    """
    height, width = (n - 1 for n in sums.shape)
    x, y = np.meshgrid(
        _starts(region.left, region.right, side, width), _starts(region.top, region.bottom, side, height)
    )
    hidden = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
    known = 1 - hidden / side**2
    middle_x, middle_y = region.middle
    off_centre = np.abs(x + side / 2 - middle_x) + np.abs(y + side / 2 - middle_y)
    keys = (off_centre.ravel(), -hidden.ravel(), -np.minimum(known, MIN_KNOWN).ravel(), hidden.ravel() == 0)
    first = np.lexsort(keys)[0]
    return float(known.flat[first]), Frame(int(x.flat[first]), int(y.flat[first]), side)


def _starts(low: int, high: int, side: int, length: int) -> npt.NDArray[np.int64]:
    """Where a frame may start on an axis, so that it sees some of [low, high) and stays on the canvas."""
    first = max(0, low - side + 1)
    last = min(length - side, high - 1)
    centred = min(max((low + high - side) // 2, first), last)
    return np.unique([*np.linspace(first, last, POSITIONS).astype(int), centred, 0, length - side])


def _sums(hole: Mask) -> npt.NDArray[np.int32]:
    """A table of sums over all windows from the origin; it gives any window's in four look-ups."""
    height, width = hole.shape
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(hole, 0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], 1, out=sums[1:, 1:])
    return sums


def _regions(hole: Mask) -> list[Box]:
    """The boxes of the hole's connected regions; those whose frames would overlap are one."""
    height, width = hole.shape
    cell = -(-max(height, width) // CELLS)
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.zeros((rows * cell, columns * cell), np.bool_)
    padded[:height, :width] = hole
    cells = np.asarray(padded.reshape(rows, cell, columns, cell).any((1, 3)))
    boxes: list[Box] = []
    for box in _connected(cells):
        if len(boxes) == MAX_REGIONS:
            return [_bounds(hole)]
        inside = Box(box.left * cell, box.top * cell, box.right * cell, box.bottom * cell)
        within = _bounds(hole[_window(inside)])
        boxes.append(
            Box(
                inside.left + within.left,
                inside.top + within.top,
                inside.left + within.right,
                inside.top + within.bottom,
            )
        )
    return _merged(boxes)


def _connected(cells: Mask) -> Iterator[Box]:
    """The boxes of groups of cells that touch, at corners too."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(cells), strict=True)}
    while left:
        edge = [left.pop()]
        box = Box(edge[0][1], edge[0][0], edge[0][1] + 1, edge[0][0] + 1)
        while edge:
            y, x = edge.pop()
            box = box.joined(Box(x, y, x + 1, y + 1))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        yield box


def _merged(boxes: Sequence[Box]) -> list[Box]:
    """Boxes whose frames would overlap as one; the largest first."""
    merged: list[Box] = []
    for box in boxes:
        while (other := next((b for b in merged if b.meets(box)), None)) is not None:
            merged.remove(other)
            box = box.joined(other)
        merged.append(box)
    return sorted(merged, key=lambda b: (-b.longer, b.top, b.left))


def _bounds(hole: Mask) -> Box:
    """The box of a hole."""
    rows = np.flatnonzero(hole.any(1))
    columns = np.flatnonzero(hole.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _window(box: Box) -> tuple[slice, slice]:
    return slice(box.top, box.bottom), slice(box.left, box.right)
