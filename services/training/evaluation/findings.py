"""What an evaluation finds: figures with their goals, contact sheets, and lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.training.evaluation.painter import Pictures

COLUMNS = 6  # of a sheet


@dataclass(frozen=True)
class Sheet:
    """A contact sheet: the name of its file, and its pictures, row by row."""

    name: str
    pictures: Sequence[Pictures]
    columns: int = COLUMNS


def beside(made: Sequence[Pictures], real: Sequence[Pictures]) -> list[Pictures]:
    """Rows of pictures for a sheet, each above a row of the real ones that it is compared with."""
    rows: list[Pictures] = []
    for start in range(0, len(made), COLUMNS):
        part = slice(start, start + COLUMNS)
        rows += [*made[part], *real[part]]
    return rows


@dataclass(frozen=True)
class Figure:
    """One measured share or ratio.

    real: the same of real scenes. pictures: how many were measured. at_least, at_most: the goal.
    noise: one standard error.
    """

    name: str
    value: float
    real: float | None
    pictures: int
    at_least: float | None = None
    at_most: float | None = None
    noise: float = 0.0

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, if there is one."""
        if self.at_least is None and self.at_most is None:
            return None
        high_enough = self.at_least is None or self.value >= self.at_least
        return high_enough and (self.at_most is None or self.value <= self.at_most)

    @property
    def is_share(self) -> bool:
        """Whether the value is a share, which is told in percent."""
        return bool(self.noise) or (self.at_least is not None and self.at_most is None)


@dataclass
class Findings:
    """What an evaluation has found so far. lists: what the report prints under a heading."""

    figures: list[Figure] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def share(self, name: str, hits: Sequence[bool], real: float | None, goal: float | None = None) -> float:
        """Note the share of pictures that are hits, with its standard error, and return it."""
        count = len(hits)
        value = float(np.mean(hits)) if count else 0.0
        noise = math.sqrt(value * (1 - value) / count) if count else 0.0
        self.figures.append(Figure(name, value, real, count, at_least=goal, noise=noise))
        return value

    def sheet(self, name: str, pictures: Sequence[Pictures], columns: int = COLUMNS) -> None:
        """Note a contact sheet."""
        self.sheets.append(Sheet(name, pictures, columns))
