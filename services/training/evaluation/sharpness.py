"""What an eye sees at the delivered size: how wide edges are, and lines and textures beside a border."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from services.training.evaluation.painter import Pictures

EDGES = 100  # of a picture and a direction: those looked at
REACH = 12  # px on each side of an edge that it may be wide
STRETCH = 32  # px along a border whose differences are averaged
EDGE_WIDTH = 2  # px on each side of a line: an edge or a rim
TONE_WIDTH = 12  # px on each side of a line: a difference in tone
VISIBLE = 1.5  # of 255: a fainter difference is seen by nobody
TEXTURE = (2, 34)  # px beside a border in which texture is compared
Values = npt.NDArray[np.float32]
Columns = npt.NDArray[np.bool_]


def edge_width(pictures: Sequence[Pictures] | Pictures) -> float:
    """The width of the strongest edges, in px: the median over all pictures.

    It is the distance in which an edge goes from 10 to 90 % of its height, along rows or columns.
    """
    widths: list[float] = []
    for picture in pictures:
        grey = picture.astype(np.float32).mean(2)
        widths += _widths(grey) + _widths(grey.T)
    return float(np.median(widths))


def _widths(grey: Values) -> list[float]:
    """The widths of the strongest edges along rows."""
    steps = np.diff(grey, axis=1)
    inside = np.abs(steps[:, REACH:-REACH])
    strongest = np.argpartition(inside, -EDGES, axis=None)[-EDGES:]
    rows, columns = np.unravel_index(strongest, inside.shape)
    return [_width(grey[y, x : x + 2 * REACH + 2]) for y, x in zip(rows, columns, strict=True)]


def _width(profile: Values) -> float:
    """Of the edge in the middle of a profile: as far as it rises, or falls, from there."""
    steps = np.diff(profile)
    rising = steps * np.sign(steps[REACH]) > 0
    first = REACH
    while first > 0 and rising[first - 1]:
        first -= 1
    last = REACH
    while last < len(steps) - 1 and rising[last + 1]:
        last += 1
    edge = profile[first : last + 2]
    height = (edge - edge[0]) / (edge[-1] - edge[0])
    low, high = np.interp((0.1, 0.9), height, np.arange(len(height)))
    return float(high - low)


def lines(picture: Pictures, width: int) -> Values:
    """How strongly each column of a picture is a line, (stretches, W - 1); 0 near the picture's edges.

    Column x is between the pixels x and x + 1. The signed differences of the ``width`` px on its two sides
    are averaged along a stretch of STRETCH px, in each channel: noise and texture cancel out, a line stays.
    """
    height = len(picture) // STRETCH * STRETCH
    means = picture[:height].astype(np.float32).reshape(-1, STRETCH, *picture.shape[1:]).mean(1)
    sums = np.pad(means.cumsum(1), ((0, 0), (1, 0), (0, 0)))
    count = picture.shape[1]
    found = np.zeros((len(means), count - 1), np.float32)
    x = np.arange(width, count - width + 1)
    right = sums[:, x + width] - sums[:, x]
    left = sums[:, x] - sums[:, x - width]
    found[:, x - 1] = np.abs(right - left).mean(2) / width
    return found


def border_ranks(picture: Pictures, border: int, known: Columns, width: int) -> list[float]:
    """How the border between columns ``border - 1`` and ``border`` ranks among the picture's known lines.

    known: (W,), of its columns. For each stretch, the share of the lines inside the known columns of its own
    rows that are weaker: a faint line in the sky is seen, whatever lies below. By chance it is uniform. What
    is too faint to be seen has rank 0.
    """
    found = lines(picture, width)
    inside = [x for x in range(width, len(known) - width) if known[x - width : x + width].all()]
    others = found[:, np.array(inside, int) - 1]
    ranks = (others < found[:, border - 1, None]).mean(1)
    return np.where(found[:, border - 1] < VISIBLE, 0, ranks).tolist()


def hole_ranks(picture: Pictures, box: tuple[slice, slice], width: int) -> list[float]:
    """The same of the four borders of a rectangle that was painted, where the picture goes on past them.

    box: its rows and columns.
    """
    rows, columns = box
    ranks: list[float] = []
    for part, across in ((picture[rows], columns), (picture[:, columns].swapaxes(0, 1), rows)):
        known = np.ones(part.shape[1], np.bool_)
        known[across] = False
        for border in (across.start, across.stop):
            if width < border < part.shape[1] - width:
                ranks += border_ranks(part, border, known, width)
    return ranks


def texture_ratio(picture: Pictures, border: int, painted_is_right: bool) -> float:
    """The texture beside a border, painted over known: standard deviations of what a blur takes away."""
    grey = Image.fromarray(picture).convert("L")
    fine = np.asarray(grey, np.float32) - np.asarray(grey.filter(ImageFilter.BoxBlur(2)), np.float32)
    low, high = TEXTURE
    right = fine[:, border + low : border + high].std()
    left = fine[:, border - high : border - low].std()
    painted, known = (right, left) if painted_is_right else (left, right)
    return float(painted / max(known, 1e-3))
