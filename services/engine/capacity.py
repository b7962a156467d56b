"""How many rows an engine holds, and who may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.engine.jobs import Job, Priority

PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")


@dataclass(frozen=True)
class EngineLimits:
    """max_running: rows that have begun, and so hold memory; max_waiting: rows that wait beyond them."""

    max_running: int
    max_waiting: int

    def rows(self, priority: Priority) -> int:
        """Rows of this priority that may have begun. Batch work leaves half of the places to the other."""
        return max(1, self.max_running // 2) if priority == "batch" else self.max_running


class Capacity:
    """Who holds memory: rows of jobs that have begun. Batch jobs get half of the places."""

    def __init__(self, limits: EngineLimits, begun: Sequence[Job]) -> None:
        self._free = {priority: limits.rows(priority) for priority in PRIORITIES}
        self._jobs = dict.fromkeys(PRIORITIES, 0)
        for job in begun:
            self.take(job)

    def fit(self, job: Job) -> bool:
        """Whether places are free for it. A job larger than all that it may have gets them by itself."""
        own = self._free[job.priority] >= len(job.rows) or not self._jobs[job.priority]
        return own and (self._free["interactive"] >= len(job.rows) or not self._jobs["interactive"])

    def take(self, job: Job) -> None:
        """The job begins."""
        self._move(job, 1)

    def give_back(self, job: Job) -> None:
        """The job has ended."""
        self._move(job, -1)

    def _move(self, job: Job, count: int) -> None:
        for priority in dict.fromkeys(("interactive", job.priority)):  # batch rows count among all
            self._free[priority] -= count * len(job.rows)
            self._jobs[priority] += count
