"""How many requests meet an objective, against how many come: as serving systems are compared.

An objective is a scale: a request meets it that takes at most so many times what its kind takes the peer by
itself, with nothing else to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt

SCALES = (2, 4, 8)


@dataclass(frozen=True)
class Row:
    """One line of the table. load: of the peer's capacity. Times in s, of pictures that were drawn.

    within_2 and so on: the share of those asked for that met the objective of that scale.
    """

    side: str
    load: float
    asked: int
    drawn: int
    pictures_a_second: float
    p50: float
    p99: float
    within_2: float
    within_4: float
    within_8: float

    @property
    def attained(self) -> tuple[float, ...]:
        """By SCALES."""
        return self.within_2, self.within_4, self.within_8


def quantile(values: Sequence[float], share: float) -> float:
    """Infinite of none."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def plot(rows: Sequence[Row], capacity: float, path: Path) -> None:
    """A panel for each scale, a line for each side. capacity: the peer's, in pictures a second."""
    figure, axes = plt.subplots(1, len(SCALES), figsize=(4 * len(SCALES), 3.4), sharey=True)
    for i, (axis, scale) in enumerate(zip(axes, SCALES, strict=True)):
        for side in dict.fromkeys(row.side for row in rows):
            own = [row for row in rows if row.side == side]
            axis.plot(
                [row.load * capacity for row in own],
                [100 * row.attained[i] for row in own],
                marker="o",
                label=side,
            )
        axis.set_title(f"within {scale} times its own time")
        axis.set_xlabel("requests a second")
        axis.set_ylim(0, 102)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("requests, %")
    axes[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
