"""The step engine: which rows run next, who waits, who is refused, and when a row's places are freed.

asyncio only. What a step does to its rows is the caller's ``advance``, which runs in one worker thread.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.engine.watcher import Ending, Stay, Watcher

logger = logging.getLogger(__name__)
SMOOTHING = 0.2  # of the moving average of what a row's step costs


class EngineRow(Protocol):
    """What the engine has to know of a row."""

    @property
    def key(self) -> Hashable:
        """Rows of equal key may share a batch; it may change from step to step."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def finished(self) -> bool:
        """Whether no step is left."""


R = TypeVar("R", bound=EngineRow)


class QueueFull(Exception):
    """No place is free and the queue is full; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class DeadlineMissed(Exception):
    """The deadline has passed, or cannot be met any more."""


class StepFailed(Exception):
    """The step that these rows were part of raised; its cause is chained and logged."""


@dataclass(frozen=True)
class Queued:
    """The rows wait; ``position`` rows are ahead of them."""

    position: int


@dataclass(frozen=True)
class Stepped:
    """A row has taken a step: the slowest row of the group has done ``step`` of ``steps``."""

    step: int
    steps: int


Event = Queued | Stepped


@dataclass(frozen=True)
class EngineLimits:
    """max_batch: rows of one step; max_running: rows with a place (and memory); max_waiting: rows queued beyond them."""

    max_batch: int
    max_running: int
    max_waiting: int


@dataclass(frozen=True)
class Load:
    """Rows running and waiting, and steps taken since the start, now."""

    running: int
    waiting: int
    steps: int


@dataclass(eq=False)
class _Group(Generic[R]):
    """The rows of one request: admitted, run and dropped together."""

    rows: Sequence[R]
    deadline: float
    priority: int
    arrival: int
    served: int = 0  # the engine's step number when it last ran
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None  # when it was given places
    batches: int = 0  # it was part of, and their rows
    batch_rows: int = 0

    @property
    def urgency(self) -> tuple[int, float, int, int]:
        """Sorts the most urgent first: by priority, then earliest deadline, then whose last step is longest ago."""
        return (-self.priority, self.deadline, self.served, self.arrival)

    @property
    def running(self) -> bool:
        return self.started is not None

    @property
    def finished(self) -> bool:
        return all(row.finished for row in self.rows)

    def waited(self) -> float:
        return (time.monotonic() if self.started is None else self.started) - self.arrived

    def progress(self) -> Stepped:
        slowest = min(self.rows, key=lambda row: row.step / row.steps)
        return Stepped(slowest.step, slowest.steps)

    def wake(self, error: Exception | None = None) -> None:
        self.error = self.error or error
        self.changed.set()


class StepEngine(Generic[R]):
    """Runs rows to their end, ``limits.max_batch`` of one key at a time, the most urgent first.

    advance(rows) takes one step with all of them; it blocks and runs in the engine's own thread. ``watcher`` is told
    of everything that happens.
    """

    def __init__(self, advance: Callable[[Sequence[R]], None], limits: EngineLimits, watcher: Watcher | None = None) -> None:
        self._advance, self._limits, self._watcher = advance, limits, watcher or Watcher()
        self._running: list[_Group[R]] = []
        self._waiting: list[_Group[R]] = []
        self._arrivals = itertools.count()
        self._row_seconds: dict[Hashable, float] = {}
        self._steps = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="step")
        self._loop: asyncio.Task[None] | None = None

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return Load(_count(self._running), _count(self._waiting), self._steps)

    async def run(self, rows: Sequence[R], *, deadline: float | None = None, priority: int = 0) -> AsyncGenerator[Event, None]:
        """Run one request's rows to their end, yielding what happens; closing the generator frees their places.

        deadline: on the ``time.monotonic`` clock; a higher priority goes first. Raises QueueFull or DeadlineMissed
        before any row has run, DeadlineMissed when the deadline passes on the way, StepFailed if a step raised.
        """
        group = _Group(rows, math.inf if deadline is None else deadline, priority, next(self._arrivals))
        self._admit(group)
        ending: Ending = "cancelled"
        try:
            if not group.running:
                yield Queued(self._rows_ahead(group))
            last = Stepped(0, 0)
            while not group.finished:
                await group.changed.wait()
                group.changed.clear()
                if group.error is not None:
                    ending = "deadline" if isinstance(group.error, DeadlineMissed) else "failed"
                    raise group.error
                if (now := group.progress()) != last and now.step:
                    yield (last := now)
            ending = "finished"
        finally:
            self._drop(group)
            occupancy = group.batch_rows / max(group.batches, 1) / self._limits.max_batch
            self._watcher.ended(ending, Stay(len(rows), group.waited(), group.batches, occupancy))

    async def close(self) -> None:
        """Drop every row and stop; whoever waits for one gets StepFailed."""
        for group in [*self._running, *self._waiting]:
            self._drop(group)
            group.wake(StepFailed("the engine is shutting down"))
        if self._loop is not None:
            await self._loop
        self._worker.shutdown()

    def _admit(self, group: _Group[R]) -> None:
        if not self._fits(group) and _count(self._waiting) + len(group.rows) > self._limits.max_waiting:
            self._watcher.refused("queue_full")
            raise QueueFull(retry_after=max(1.0, self._seconds_for([*self._running, *self._waiting])))
        ahead = [g for g in [*self._running, *self._waiting] if g.urgency < group.urgency]
        if time.monotonic() + self._seconds_for([*ahead, group]) > group.deadline:
            self._watcher.refused("deadline")
            raise DeadlineMissed("the deadline cannot be met")
        self._waiting.append(group)
        self._promote()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.get_running_loop().create_task(self._run_steps())

    def _fits(self, group: _Group[R]) -> bool:
        """Whether the group can have places at once. A group larger than all places may run alone."""
        return not self._waiting and (not self._running or _count(self._running) + len(group.rows) <= self._limits.max_running)

    def _promote(self) -> None:
        """Give free places to the most urgent that wait."""
        for group in sorted(self._waiting, key=lambda g: g.urgency):
            if self._running and _count(self._running) + len(group.rows) > self._limits.max_running:
                break
            self._waiting.remove(group)
            self._running.append(group)
            group.started = time.monotonic()
            self._watcher.started(len(group.rows), group.waited())
        self._watcher.busy(_count(self._running), _count(self._waiting))

    def _rows_ahead(self, group: _Group[R]) -> int:
        return _count(self._running) + _count([g for g in self._waiting if g.urgency < group.urgency])

    def _seconds_for(self, groups: Sequence[_Group[R]]) -> float:
        """At least how long these groups will take together, by what a row's step has cost; 0 while none was seen.

        The cheapest key's cost stands for all: refusing a request that could have been served is the worse error.
        """
        cost = min(self._row_seconds.values(), default=0.0)
        return cost * sum(row.steps - row.step for group in groups for row in group.rows)

    def _drop(self, group: _Group[R]) -> None:
        for queue in (self._running, self._waiting):
            if group in queue:
                queue.remove(group)
        self._promote()

    def _expire(self) -> None:
        now = time.monotonic()
        for group in [g for g in [*self._running, *self._waiting] if g.deadline < now]:
            self._drop(group)
            group.wake(DeadlineMissed("the deadline has passed"))

    def _pick(self) -> list[tuple[_Group[R], R]]:
        """The next batch: the most urgent row, and the most urgent others that can share its network call."""
        ready = [(g, r) for g in sorted(self._running, key=lambda g: g.urgency) for r in g.rows if not r.finished]
        return [(g, r) for g, r in ready if r.key == ready[0][1].key][: self._limits.max_batch]

    async def _run_steps(self) -> None:
        while True:
            self._expire()
            batch = self._pick()
            if not batch:
                return
            key, started, error = batch[0][1].key, time.monotonic(), None
            try:
                await asyncio.get_running_loop().run_in_executor(self._worker, self._advance, [row for _, row in batch])
            except Exception as cause:
                logger.exception("a step of %d rows failed", len(batch))
                error = StepFailed("the step failed")
                error.__cause__ = cause
            self._measure(key, len(batch), time.monotonic() - started)
            for group in {id(g): g for g, _ in batch}.values():
                group.served = self._steps
                group.batches, group.batch_rows = group.batches + 1, group.batch_rows + len(batch)
                if error is not None or group.finished:
                    self._drop(group)
                group.wake(error)
            # Let those woken be served, and those cancelled leave, before the next step is put together.
            await asyncio.sleep(0)

    def _measure(self, key: Hashable, rows: int, seconds: float) -> None:
        self._watcher.stepped(key, rows, seconds)
        self._steps += 1
        before = self._row_seconds.get(key, seconds / rows)
        self._row_seconds[key] = before + SMOOTHING * (seconds / rows - before)


def _count(groups: Sequence[_Group[R]]) -> int:
    return sum(len(g.rows) for g in groups)
