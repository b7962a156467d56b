"""Where objects stand in a scene, how large, and how they are turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Places and sides are in steps of the picture's side over GRID, which an eye does not see. What a network
# learns of an object in one place holds in every other place that its patches meet alike, so it need not
# learn every offset.
GRID = 32
SIDES = {1: (16, 26), 2: (11, 16), 3: (8, 11)}  # the least and the most, by the number of objects
SAID_SIDES = {"big": (28, 31), "small": (8, 12)}  # of a lone object whose caption says its size
FRONT_SIDES = ((12, 16), (20, 26))  # of the object in front, and of the one behind
# Of objects: how many are not as their artwork has them, but tilted or mirrored. Each pose wants training of
# its own: with half of all objects mirrored and more tilted, 240,000 pictures left mixtures of poses.
POSED = 0.1
TILTS = (-16.0, -8.0, 8.0, 16.0)  # degrees, counterclockwise


@dataclass(frozen=True)
class Placement:
    """Where an object stands, and its pose.

    x, y, side: its centre and its side, relative to the picture's side. tilt: degrees, counterclockwise.
    mirrored: before it is tilted.
    """

    x: float
    y: float
    side: float
    tilt: float = 0.0
    mirrored: bool = False

    def box(self, side: int, room: npt.ArrayLike = 1.0) -> tuple[slice, slice]:
        """Rows and columns of its square in a picture of ``side`` px, cut by the picture's edges.

        room: scales its reach to the left, the top, the right and the bottom.
        """
        reach = self.side / 2 * np.multiply(room, (-1, -1, 1, 1))
        edges = np.clip(np.array([self.x, self.y] * 2) + reach, 0, 1)
        left, top, right, bottom = (edges * side).round().astype(int)
        return slice(top, bottom), slice(left, right)


def place(rng: np.random.Generator, count: int, relation: str, size: str) -> tuple[Placement, ...]:
    """Draw where each object stands. They do not overlap much, unless one is in front of the other."""
    ranges: Sequence[tuple[int, int]] = [SAID_SIDES[size] if size else SIDES[count]] * count
    if relation == "front":
        ranges = FRONT_SIDES
    sides = np.array([rng.integers(low, high, endpoint=True) for low, high in ranges]) / GRID
    centres = _centres(rng, sides, relation)
    corners = np.clip(centres - sides[:, None] / 2, 0, np.maximum(1 - sides[:, None], 0))
    centres = np.round(corners * GRID) / GRID + sides[:, None] / 2
    return tuple(
        Placement(float(x), float(y), float(s), *_pose(rng)) for (x, y), s in zip(centres, sides, strict=True)
    )


def _pose(rng: np.random.Generator) -> tuple[float, bool]:
    """An object's tilt, and whether it is mirrored."""
    if rng.random() >= POSED:
        return 0.0, False
    return float(rng.choice((0.0, *TILTS))), bool(rng.random() < 0.5)


def _centres(
    rng: np.random.Generator, sides: npt.NDArray[np.float64], relation: str
) -> npt.NDArray[np.float64]:
    """Centres of objects of these sides, (count, 2). They may reach past the picture a little."""
    count = len(sides)
    if count == 1:
        return rng.uniform(sides / 2, 1 - sides / 2, 2)[None]
    if relation == "front":
        beside = rng.uniform(0.08, 0.2) * rng.choice([-1, 1])
        behind = rng.uniform(0.4, 0.6)
        return np.array([(behind + beside, rng.uniform(0.66, 0.76)), (behind, rng.uniform(0.38, 0.46))])
    across = rng.uniform(0.35, 0.7, count)
    if relation in ("above", "below"):
        across = rng.uniform(0.35, 0.65) + rng.uniform(-0.1, 0.1, count)
    along = _along(rng, sides)
    if relation in ("right", "below") or (relation == "beside" and rng.random() < 0.5):
        along = _along(rng, sides[::-1])[::-1]
    columns = (across, along) if relation in ("above", "below") else (along, across)
    return np.stack(columns, 1)


def _along(rng: np.random.Generator, sides: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centres of objects one after another along a line of length 1, with what is left as gaps."""
    left = max(1 - sides.sum(), 0.0)
    gaps = rng.dirichlet(np.ones(len(sides) + 1)) * left
    centres: npt.NDArray[np.float64] = np.cumsum(gaps[:-1] + sides) - sides / 2
    return centres
