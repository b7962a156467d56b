"""Who runs next, who waits, who is refused: the engine's rules, without threads, event loops or tensors.

Work arrives as jobs, one a request; a job is one row or several, and a row is a list of segments. The
scheduler knows only counts of steps and a clock that it is given, so its rules are tested in milliseconds.

Jobs are served in the order of ``due``: the caller's deadline, or sooner, a multiple of what the job needs by
itself. So a caller without a deadline waits a bounded multiple of its own work, and a short job does not wait
behind long ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.engine.costs import CostModel, Segment, Timeline
from services.engine.errors import DeadlineMissed, DeadlineUnreachable, QueueFull
from services.engine.jobs import Batch, Job, Plan, Row, count_rows

Priority = Literal["interactive", "batch"]
# How many times its own duration a job is let wait before it goes ahead of whatever came later.
STRETCH: dict[Priority, float] = {"interactive": 10.0, "batch": 100.0}


@dataclass(frozen=True)
class EngineLimits:
    """max_running: rows that have begun, and so hold memory; max_waiting: rows that wait beyond them."""

    max_running: int
    max_waiting: int


@dataclass(frozen=True)
class NetworkCost:
    """What a full call of a network costs, and how many evaluations it holds."""

    network: str
    seconds: float
    evaluations: int


@dataclass(frozen=True)
class Load:
    """How busy an engine is: rows running and waiting, steps since the start, seconds until all are done.

    costs: of a full call of each network that was measured.
    """

    running: int
    waiting: int
    steps: int
    backlog_seconds: float = 0.0
    costs: tuple[NetworkCost, ...] = ()


@dataclass(eq=False)
class Scheduler:
    """The rules. ``clock`` gives seconds; deadlines are on it."""

    limits: EngineLimits
    costs: CostModel
    clock: Callable[[], float]
    running: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    steps: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _busy_until: float = -math.inf  # when the step under way should end

    def admit(
        self, plans: Sequence[Plan], deadline: float = math.inf, priority: Priority = "interactive"
    ) -> Job:
        """Take a job in.

        Raises DeadlineMissed if an idle engine could not finish it in time, DeadlineUnreachable if this one
        cannot or if somebody who was admitted before would then be late, and QueueFull.
        """
        now = self.clock()
        rows = [Row(plan) for plan in plans]
        alone = self._seconds([rows])
        if now + alone > deadline:
            raise DeadlineMissed(f"it takes about {alone:.1f} s, more than the deadline leaves")
        due = now + STRETCH[priority] * alone
        if priority == "interactive":
            due = min(due, deadline)
        job = Job(rows, now, deadline, due, next(self._numbers))
        self._require_room(job)
        self._require_time(job, now)
        self.waiting.append(job)
        self._promote(now)
        return job

    def pick(self) -> Batch | None:
        """The next step: the first row in order, and those after it that still fit into its network call."""
        ready = [
            (j, i)
            for j in sorted(self.running, key=lambda j: j.order)
            for i, r in enumerate(j.rows)
            if not r.finished
        ]
        if not ready:
            return None
        first = _segment(*ready[0])
        chosen: list[tuple[Job, int]] = []
        evaluations = 0
        for job, i in ready:
            segment = _segment(job, i)
            more = evaluations + segment.evaluations
            same_call = (segment.network, segment.shape) == (first.network, first.shape)
            if same_call and self.costs.sizes.has_room(first.network, len(chosen) + 1, more):
                chosen.append((job, i))
                evaluations = more
        seconds = self.costs.seconds(first.network, evaluations)
        self._busy_until = self.clock() + seconds
        return Batch(first.network, tuple(chosen), evaluations, seconds)

    def stepped(self, batch: Batch, seconds: float) -> list[Job]:
        """A step was taken; returns the jobs that it finished, which are gone from here on."""
        self.costs.measured(batch.network, batch.evaluations, seconds)
        self.steps += 1
        self._busy_until = -math.inf
        for job, i in batch.rows:
            job.rows[i].advance()
            job.row_steps += 1
        finished = []
        for job in batch.jobs:
            job.batches += 1
            job.batch_rows += len(batch.rows)
            if job.finished and job in self.running:
                finished.append(job)
                self.remove(job)
        return finished

    def failed(self, batch: Batch) -> None:
        """A step was taken in vain: its jobs are dropped, and nothing is learnt of what it costs."""
        self.steps += 1
        self._busy_until = -math.inf
        for job in batch.jobs:
            self.remove(job)

    def remove(self, job: Job) -> None:
        """Drop a job, whatever state it is in, and give its places to those that wait."""
        for queue in (self.running, self.waiting):
            if job in queue:
                queue.remove(job)
        self._promote(self.clock())

    def expire(self) -> list[Job]:
        """Drop and return the jobs whose deadline has passed."""
        now = self.clock()
        late = [job for job in [*self.running, *self.waiting] if job.deadline < now]
        for job in late:
            self.remove(job)
        return late

    def rows_ahead(self, job: Job) -> int:
        """Rows that are served before this job's."""
        return count_rows(self.running) + count_rows([j for j in self.waiting if j.order < job.order])

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        backlog = self._seconds([job.rows for job in self._in_order()])
        prices = tuple(
            NetworkCost(
                network,
                self.costs.seconds(network, self.costs.sizes.full(network)),
                self.costs.sizes.full(network),
            )
            for network in self.costs.networks
        )
        return Load(count_rows(self.running), count_rows(self.waiting), self.steps, backlog, prices)

    def _in_order(self) -> list[Job]:
        return sorted([*self.running, *self.waiting], key=lambda job: job.order)

    def _seconds(self, rows_of_jobs: Sequence[Sequence[Row]]) -> float:
        timeline = Timeline(self.costs)
        for rows in rows_of_jobs:
            for row in rows:
                timeline.add(row.left())
        return timeline.seconds

    def _fits(self, job: Job) -> bool:
        """Whether places are free for it. A job larger than all places runs alone."""
        return not self.running or count_rows(self.running) + len(job.rows) <= self.limits.max_running

    def _require_room(self, job: Job) -> None:
        if not self.waiting and self._fits(job):
            return
        too_many = count_rows(self.waiting) + len(job.rows) - self.limits.max_waiting
        if too_many <= 0:
            return
        timeline = Timeline(self.costs)
        for other in self._in_order():
            for row in other.rows:
                timeline.add(row.left())
            too_many -= len(other.rows)
            if too_many <= 0:
                break
        raise QueueFull(timeline.seconds)

    def _require_time(self, job: Job, now: float) -> None:
        """Everyone on time without the job must be on time with it, and so must the job itself."""
        start = max(now, self._busy_until)
        without = Timeline(self.costs)
        including = Timeline(self.costs)
        for other in sorted([*self.running, *self.waiting, job], key=lambda j: j.order):
            for row in other.rows:
                including.add(row.left())
                if other is not job:
                    without.add(row.left())
            if other.order < job.order or other.deadline == math.inf:
                continue
            late = start + including.seconds - other.deadline
            was_on_time = other is job or start + without.seconds <= other.deadline
            if late > 0 and was_on_time:
                raise DeadlineUnreachable(late)

    def _promote(self, now: float) -> None:
        """Give free places to those that wait, in order."""
        for job in sorted(self.waiting, key=lambda j: j.order):
            if not self._fits(job):
                break
            self.waiting.remove(job)
            self.running.append(job)
            job.started = now


def _segment(job: Job, i: int) -> Segment:
    return job.rows[i].segment
