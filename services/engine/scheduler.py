"""Who runs next, who waits, who is refused: the engine's rules, without threads, event loops or tensors.

Work arrives as jobs, one a request; a job is one row or several, and a row is a list of segments. The
scheduler knows only counts of steps and a clock that it is given, so its rules are tested in milliseconds.

Jobs are served in the order of ``due``: the caller's deadline, or sooner, a multiple of what the job needs by
itself. So a caller without a deadline waits a bounded multiple of its own work, a short job does not wait
behind long ones, nor one tenant's few behind another's many, which lag. Batch jobs and those that lag share
calls of others only where these have one size, and would be filled up with nothing. A job that has begun
holds memory until it ends. So few may, and batch jobs only in half of the places, which leaves room for
interactive ones.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from services.engine.capacity import Capacity, EngineLimits
from services.engine.costs import Call, CostModel, Segment, Timeline
from services.engine.errors import DeadlineMissed, DeadlineUnreachable, QueueFull
from services.engine.jobs import Batch, Job, Plan, Priority, Row, count_rows

# How many times its own duration a job is let wait before it goes ahead of whatever came later.
STRETCH: dict[Priority, float] = {"interactive": 10.0, "batch": 100.0}


@dataclass(frozen=True)
class NetworkCost:
    """What a full call of a network costs, and how many evaluations it holds."""

    network: str
    seconds: float
    evaluations: int


@dataclass(frozen=True)
class Load:
    """How busy an engine is.

    running, waiting: rows that have begun, and that have not. steps: since the start. backlog_seconds: until
    all are done. full_seconds: that the work since the start takes in full calls. costs: of calls of each
    network that was measured, a full one among them.
    """

    running: int
    waiting: int
    steps: int
    backlog_seconds: float = 0.0
    full_seconds: float = 0.0
    costs: tuple[NetworkCost, ...] = ()


@dataclass(eq=False)
class Scheduler:
    """The rules. ``clock`` gives seconds; deadlines are on it."""

    limits: EngineLimits
    costs: CostModel
    clock: Callable[[], float]
    jobs: list[Job] = field(default_factory=list)
    steps: int = 0
    full_seconds: float = 0.0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _busy_until: float = -math.inf  # when the step under way should end
    _load: Load | None = None  # until something changes

    def admit(
        self,
        plans: Sequence[Plan],
        deadline: float = math.inf,
        priority: Priority = "interactive",
        lag: float = 0.0,
    ) -> Job:
        """Take a job in. lag: seconds that it is due later, since its tenant is ahead of its quota.

        Raises DeadlineMissed if an idle engine could not finish it in time, DeadlineUnreachable if this one
        cannot or if somebody who was admitted before would then be late, and QueueFull.
        """
        now = self.clock()
        rows = [Row(plan) for plan in plans]
        alone = self._alone(rows)
        if now + alone > deadline:
            raise DeadlineMissed(f"it takes about {alone:.1f} s, more than the deadline leaves")
        due = now + lag + STRETCH[priority] * alone
        if priority == "interactive":
            due = min(due, deadline)
        job = Job(rows, now, deadline, due, next(self._numbers), priority, now + lag)
        self._require_room(job)
        self._require_time(job, now)
        self.jobs.append(job)
        self._load = None
        return job

    def pick(self) -> Batch | None:
        """The next step: the first row in order, and those after it that still fit into its network call."""
        ready = [(j, i) for j in self._ready() for i, r in enumerate(j.rows) if not r.finished]
        if not ready:
            return None
        now = self.clock()
        first = _segment(*ready[0])
        shared = self._call(ready[0][0], first.network, now)
        chosen: list[tuple[Job, int]] = []
        evaluations = 0
        for job, i in ready:
            segment = _segment(job, i)
            more = evaluations + segment.evaluations
            same_call = (self._call(job, segment.network, now), segment.shape) == (shared, first.shape)
            if same_call and self.costs.sizes.has_room(first.network, len(chosen) + 1, more):
                chosen.append((job, i))
                evaluations = more
        for job, _ in chosen:
            job.began = now if job.began is None else job.began
        seconds = self.costs.seconds(first.network, evaluations)
        self._busy_until = now + seconds
        self._load = None
        occupancy = min(1.0, evaluations / self.costs.sizes.full(first.network))
        return Batch(first.network, first.shape, tuple(chosen), evaluations, occupancy, seconds)

    def stepped(self, batch: Batch, seconds: float, *, usual: bool = True) -> list[Job]:
        """A step was taken; returns the jobs that it finished, which are gone from here on.

        usual: false if nothing is to be learnt of how long it took.
        """
        if usual:
            self.costs.measured(batch.network, batch.evaluations, seconds)
        self.full_seconds += self.in_full_calls(batch, seconds)
        self._ended()
        for job, i in batch.rows:
            job.rows[i].advance()
            job.row_steps += 1
        finished = []
        for job in batch.jobs:
            job.batches += 1
            job.occupancy += batch.occupancy
            if job.finished and job in self.jobs:
                finished.append(job)
                self.remove(job)
        return finished

    def failed(self, batch: Batch) -> None:
        """A step was taken in vain: its jobs are dropped, and nothing is learnt of what it costs."""
        self._ended()
        for job in batch.jobs:
            self.remove(job)

    def remove(self, job: Job) -> None:
        """Drop a job, whatever state it is in."""
        if job in self.jobs:
            self.jobs.remove(job)
            self._load = None

    def expire(self) -> list[Job]:
        """Drop and return the jobs whose deadline has passed."""
        now = self.clock()
        late = [job for job in self.jobs if job.deadline < now]
        for job in late:
            self.remove(job)
        return late

    def rows_ahead(self, job: Job) -> int:
        """Rows that are served before this job's."""
        line = self._line(self.jobs)
        return count_rows(line[: line.index(job)]) if job in line else 0

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        if self._load is None:
            sizes = self.costs.sizes
            prices = tuple(
                NetworkCost(network, self.costs.seconds(network, evaluations), evaluations)
                for network in self.costs.networks
                for evaluations in sorted({*self.costs.measured_sizes(network), sizes.full(network)})
            )
            running = count_rows(self._begun())
            waiting = count_rows(self.jobs) - running
            self._load = Load(running, waiting, self.steps, self._backlog(), self.full_seconds, prices)
        return self._load

    def in_full_calls(self, batch: Batch, seconds: float) -> float:
        """What the evaluations of a step of so many seconds take in full calls, where each costs least."""
        full = self.costs.sizes.full(batch.network)
        if full not in self.costs.measured_sizes(batch.network):
            return batch.occupancy * seconds
        return min(seconds, batch.evaluations / full * self.costs.seconds(batch.network, full))

    def _ended(self) -> None:
        self.steps += 1
        self._busy_until = -math.inf
        self._load = None

    def _begun(self) -> list[Job]:
        return [job for job in self.jobs if job.began is not None]

    def _ready(self) -> list[Job]:
        """The jobs that may take a step now, in order: those that have begun, and those that may begin.

        No job begins before one of its own priority that waits in front of it for a place.
        """
        capacity = Capacity(self.limits, self._begun())
        ready = []
        full: set[Priority] = set()
        for job in sorted(self.jobs, key=lambda j: j.order):
            if job.began is not None:
                ready.append(job)
            elif job.priority not in full and capacity.fit(job):
                capacity.take(job)
                ready.append(job)
            else:
                full |= {job.priority, "batch"}
        return ready

    def _line(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs in the order in which they are served.

        One for which no place is free comes after those that hold the capacity.
        """
        begun = [job for job in jobs if job.began is not None]
        capacity = Capacity(self.limits, begun)
        # A job's turn: when it is due or, if it waits for a place, just after the one whose place it gets.
        turns = {job: (job.due, 0, *job.order) for job in jobs}
        holders = [(turns[job], job) for job in begun]
        heapq.heapify(holders)
        for job in sorted((j for j in jobs if j.began is None), key=lambda j: j.order):
            while holders and not capacity.fit(job):
                (due, depth, *_), holder = heapq.heappop(holders)
                capacity.give_back(holder)
                turns[job] = max(turns[job], (due, depth + 1, *job.order))
            capacity.take(job)
            heapq.heappush(holders, (turns[job], job))
        return sorted(jobs, key=lambda job: turns[job])

    def _call(self, job: Job, network: str, now: float) -> Call:
        return self.costs.sizes.call(network, can_wait=job.can_wait(now))

    def _alone(self, rows: Iterable[Row]) -> float:
        timeline = Timeline(self.costs)
        for row in rows:
            timeline.add(row.left(), self.limits.max_running)
        return timeline.seconds

    def _backlog(self) -> float:
        now = self.clock()
        timeline = Timeline(self.costs)
        for job in self._line(self.jobs):
            for row in job.rows:
                timeline.add(row.left(), self.limits.max_running, can_wait=job.can_wait(now))
        return timeline.seconds

    def _require_room(self, job: Job) -> None:
        too_many = count_rows(self.jobs) + len(job.rows) - self.limits.max_running - self.limits.max_waiting
        if not self.jobs or too_many <= 0:
            return
        timeline = Timeline(self.costs)
        for other in self._line(self.jobs):
            for row in other.rows:
                timeline.add(row.left(), self.limits.rows(other.priority))
            too_many -= len(other.rows)
            if too_many <= 0:
                break
        raise QueueFull(timeline.seconds)

    def _require_time(self, job: Job, now: float) -> None:
        """Everyone on time without the job must be on time with it, and so must the job itself."""
        start = max(now, self._busy_until)
        ends = self._ends(self.jobs)
        for other, end in self._ends([*self.jobs, job]).items():
            late = start + end - other.deadline
            was_on_time = other is job or start + ends[other] <= other.deadline
            if late > 0 and was_on_time:
                raise DeadlineUnreachable(late)

    def _ends(self, jobs: Sequence[Job]) -> dict[Job, float]:
        """When each job ends, in seconds from now, if those after it share its calls.

        One that lags shares them too, once it no longer does.
        """
        now = self.clock()
        crowd: Counter[Call] = Counter()
        for job in jobs:
            for segment in (segment for row in job.rows for segment in row.left()):
                calls = {self._call(job, segment.network, at) for at in (now, math.inf)}
                crowd.update(dict.fromkeys(calls, segment.evaluations))
        timeline = Timeline(self.costs, crowd)
        ends = {}
        for job in self._line(jobs):
            for row in job.rows:
                timeline.add(row.left(), self.limits.rows(job.priority), can_wait=job.can_wait(now))
            ends[job] = timeline.seconds
        return ends


def _segment(job: Job, i: int) -> Segment:
    return job.rows[i].segment
