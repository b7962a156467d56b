"""What the scheduler works with: rows by their place in their plan, jobs of rows, and batches of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.engine.costs import Segment

Plan = Sequence[Segment]
Priority = Literal["interactive", "batch"]


@dataclass(eq=False)
class Row:
    """Where a row is in its plan."""

    plan: Plan
    place: int = 0  # the segment it is in
    step: int = 0  # steps done in that segment

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.place == len(self.plan)

    @property
    def segment(self) -> Segment:
        """What it does next. Only a row that is not finished has one."""
        return self.plan[self.place]

    def advance(self) -> None:
        """One step further."""
        self.step += 1
        if self.step == self.segment.steps:
            self.place += 1
            self.step = 0

    def left(self) -> list[Segment]:
        """The segments to go, the first one shortened by what is done of it."""
        if self.finished:
            return []
        now = self.segment
        rest = Segment(now.network, now.steps - self.step, now.evaluations, now.shape)
        return [rest, *self.plan[self.place + 1 :]]


@dataclass(eq=False)
class Job:
    """The rows of one request: admitted, run and dropped together. Times are the scheduler's clock's.

    paced: when its tenant is no longer ahead of its quota.
    """

    rows: list[Row]
    arrived: float
    deadline: float
    due: float
    number: int
    priority: Priority = "interactive"
    paced: float = -math.inf
    began: float | None = None  # when it was picked for its first step; from then on its rows hold memory
    batches: int = 0  # steps it was part of
    row_steps: int = 0  # the same, counted once for each of its rows
    occupancy: float = 0.0  # the sum of these steps'

    def can_wait(self, now: float) -> bool:
        """Whether others' steps should not take longer for its sake."""
        return self.priority == "batch" or now < self.paced

    @property
    def order(self) -> tuple[float, int]:
        """Sorts those served first to the front."""
        return self.due, self.number

    @property
    def finished(self) -> bool:
        """Whether all rows are."""
        return all(row.finished for row in self.rows)


@dataclass(frozen=True)
class Batch:
    """One step: the rows that share a network call."""

    network: str
    shape: tuple[int, ...]
    rows: tuple[tuple[Job, int], ...]  # each a job, and the row's place in it
    evaluations: int
    occupancy: float  # its evaluations over those of a full call
    expected_seconds: float  # 0 if it is not known what its network costs

    @property
    def jobs(self) -> list[Job]:
        """Those that have a row in it, each once."""
        return list(dict.fromkeys(job for job, _ in self.rows))


def count_rows(jobs: Sequence[Job]) -> int:
    """Rows of these jobs."""
    return sum(len(job.rows) for job in jobs)
