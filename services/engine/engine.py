"""The step engine: runs the scheduler's steps in a thread, and tells callers what happens to their rows.

asyncio and one thread. The thread does all that touches tensors: it starts rows, takes steps, makes previews
and results.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from services.engine.costs import CallSizes, CostModel
from services.engine.errors import DeadlineMissed, DeadlineUnreachable, EngineStopped, QueueFull, StepFailed
from services.engine.events import Event, Finished, Outbox, Queued, Shown, Stepped
from services.engine.jobs import Batch, Job, Plan, count_rows
from services.engine.scheduler import EngineLimits, Load, Priority, Scheduler
from services.engine.watcher import Ending, Stay, Watcher

logger = logging.getLogger(__name__)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
FAILED_STEPS = 3  # in a row that make an engine unhealthy
# A step hangs if it takes this many times as long as expected, and longer than the seconds.
HANG_FACTOR, HANG_SECONDS = 20.0, 30.0


class Task(Protocol[R_co]):
    """One request as a stage gives it to its engine.

    Every method runs in the engine's thread and may block.
    """

    @property
    def plans(self) -> Sequence[Plan]:
        """What each row will need, known before any has started."""

    def start(self) -> Sequence[R_co]:
        """Make the rows, when they have places."""

    def preview(self) -> object | None:
        """What there is to show after a step; None: nothing."""

    def finish(self) -> object:
        """The result, when all rows are done."""


@dataclass(eq=False)
class _Admitted(Generic[R]):
    """A job, the task behind it, and what its caller has not yet been told."""

    task: Task[R]
    job: Job
    rows: Sequence[R] | None = None
    outbox: Outbox = field(default_factory=Outbox)


class StepEngine(Generic[R]):
    """Runs tasks to their end. ``advance(rows)`` takes one step with rows of one network; it blocks.

    ``watcher`` is told of everything that happens; what it raises is logged and changes nothing.
    """

    def __init__(
        self,
        advance: Callable[[Sequence[R]], None],
        limits: EngineLimits,
        sizes: CallSizes,
        watcher: Watcher | None = None,
        *,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self._advance = advance
        self._scheduler = Scheduler(limits, CostModel(sizes), time.monotonic)
        self._watcher = watcher or Watcher()
        self._hang_seconds = hang_seconds
        self._max_batch = sizes.max_batch
        self._admitted: dict[Job, _Admitted[R]] = {}
        self._failures = 0
        self._hangs = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="step")
        self._loop: asyncio.Task[None] | None = None

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return self._scheduler.load

    def check(self) -> None:
        """Raises EngineStopped if a step hangs, or if steps keep failing: the replica should be replaced."""
        if self._hangs:
            raise EngineStopped("a step hangs")
        if self._failures >= FAILED_STEPS:
            raise EngineStopped(f"the last {self._failures} steps failed")

    async def run(
        self, task: Task[R], *, deadline: float = math.inf, priority: Priority = "interactive"
    ) -> AsyncGenerator[Event, None]:
        """Run a task, yielding what happens and at last its result; closing the generator frees its places.

        deadline: on the ``time.monotonic`` clock. Raises Overloaded or DeadlineMissed before any row has run,
        DeadlineMissed when the deadline passes, even in the middle of a step; StepFailed; EngineStopped.
        """
        admitted = self._admit(task, deadline, priority)
        job = admitted.job
        ending: Ending = "cancelled"
        try:
            if job.started is None:
                yield Queued(self._scheduler.rows_ahead(job))
            while True:
                for event in await admitted.outbox.take(deadline):
                    yield event
                    if isinstance(event, Finished):
                        ending = "finished"
                        return
        except DeadlineMissed:
            ending = "deadline"
            raise
        except (StepFailed, EngineStopped):
            ending = "failed"
            raise
        finally:
            self._drop(job)
            self._tell(self._watcher.ended, ending, self._stay(job))

    async def close(self) -> None:
        """Drop every row and stop; whoever waits for one gets EngineStopped."""
        self._fail_all(EngineStopped("the engine is shutting down"))
        if self._loop is not None:
            await self._loop
        self._worker.shutdown()

    def _admit(self, task: Task[R], deadline: float, priority: Priority) -> _Admitted[R]:
        if self._hangs:
            raise EngineStopped("a step hangs")
        try:
            job = self._scheduler.admit(task.plans, deadline, priority)
        except QueueFull:
            self._tell(self._watcher.refused, "queue_full")
            raise
        except (DeadlineMissed, DeadlineUnreachable):
            self._tell(self._watcher.refused, "deadline")
            raise
        admitted = _Admitted(task, job)
        self._admitted[job] = admitted
        self._tell_load()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.get_running_loop().create_task(self._run_steps())
        return admitted

    async def _run_steps(self) -> None:
        """Take steps until there is no work. Whatever goes wrong here ends every caller, never silently."""
        try:
            while (batch := self._next_batch()) is not None:
                await self._step(batch)
                # Those woken are served, and those cancelled leave, before the next step is put together.
                await asyncio.sleep(0)
        except Exception:
            logger.exception("the engine's loop failed")
            self._failures = FAILED_STEPS
            self._fail_all(EngineStopped("the engine failed"))

    def _next_batch(self) -> Batch | None:
        for job in self._scheduler.expire():
            if admitted := self._admitted.pop(job, None):
                admitted.outbox.fail(DeadlineMissed("the deadline has passed"))
        return self._scheduler.pick()

    async def _step(self, batch: Batch) -> None:
        for job in batch.jobs:
            if job.batches == 0:
                self._tell(self._watcher.started, len(job.rows), (job.started or job.arrived) - job.arrived)
        work = [(self._admitted[job], i) for job, i in batch.rows]
        started = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._worker, self._take_step, work)
        await self._watch(future, batch)
        seconds = time.monotonic() - started
        self._tell(self._watcher.stepped, batch.network, len(batch.rows), seconds)
        tasks = list(dict.fromkeys(admitted for admitted, _ in work))
        if (error := future.exception()) is not None:
            self._failures += 1
            logger.error("a step of %d rows failed", len(batch.rows), exc_info=error)
            self._scheduler.failed(batch)
            for admitted in tasks:
                self._fail(admitted, error)
            return
        self._failures = 0
        for admitted, cause in future.result():
            logger.error("a task could not start", exc_info=cause)
            self._fail(admitted, cause)
        finished = self._scheduler.stepped(batch, seconds)
        present = [admitted for admitted in tasks if admitted.job in self._admitted]
        for admitted in present:
            self._report(admitted, batch, done=admitted.job in finished)
        self._tell_load()
        for admitted in present:
            if admitted.job in finished:
                await self._finish(admitted)

    async def _watch(self, future: asyncio.Future[Any], batch: Batch) -> None:
        """Wait for a step. While one hangs, nobody is kept waiting for it."""
        patience = max(self._hang_seconds, HANG_FACTOR * batch.expected_seconds)
        await asyncio.wait([future], timeout=patience)
        if future.done():
            return
        logger.error("a step of %s hangs: it takes longer than %.0f s", batch.network, patience)
        self._hangs = True
        self._fail_all(EngineStopped("a step hangs"))
        await asyncio.wait([future])
        self._hangs = False

    def _take_step(self, work: Sequence[tuple[_Admitted[R], int]]) -> list[tuple[_Admitted[R], Exception]]:
        """In the worker: start rows that have not begun, advance all, and look at what there is to show.

        Returns the tasks that could not start, with what they raised: they leave the others alone.
        """
        broken = []
        rows = []
        for admitted, i in work:
            try:
                if admitted.rows is None:
                    admitted.rows = admitted.task.start()
                rows.append(admitted.rows[i])
            except Exception as error:
                broken.append((admitted, error))
        if rows:
            self._advance(rows)
        for admitted in dict.fromkeys(admitted for admitted, _ in work if admitted.rows is not None):
            preview = admitted.task.preview()
            if preview is not None:
                admitted.outbox.previews.append(Shown(preview))
        return broken

    def _report(self, admitted: _Admitted[R], batch: Batch, *, done: bool) -> None:
        """Tell how far the job's slowest row is in the network of this step, and what there is to see."""
        steps = sum(s.steps for s in admitted.job.rows[0].plan if s.network == batch.network)
        left = max(
            sum(segment.steps for segment in row.left() if segment.network == batch.network)
            for row in admitted.job.rows
        )
        admitted.outbox.put(Stepped(batch.network, steps - left, steps), wake=not done)

    async def _finish(self, admitted: _Admitted[R]) -> None:
        """Make the result of a task whose rows are all done; one that cannot be made fails alone."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._worker, admitted.task.finish)
        except Exception as cause:
            logger.exception("a result could not be made")
            self._fail(admitted, cause)
        else:
            admitted.outbox.put(Finished(result))

    def _fail(self, admitted: _Admitted[R], cause: BaseException) -> None:
        error = StepFailed("the step failed")
        error.__cause__ = cause
        self._drop(admitted.job)
        admitted.outbox.fail(error)

    def _fail_all(self, error: EngineStopped) -> None:
        for admitted in list(self._admitted.values()):
            self._drop(admitted.job)
            admitted.outbox.fail(error)

    def _drop(self, job: Job) -> None:
        self._scheduler.remove(job)
        self._admitted.pop(job, None)
        self._tell_load()

    def _stay(self, job: Job) -> Stay:
        waited = (time.monotonic() if job.started is None else job.started) - job.arrived
        occupancy = job.batch_rows / max(job.batches, 1) / self._max_batch
        return Stay(len(job.rows), waited, job.batches, job.row_steps, occupancy)

    def _tell_load(self) -> None:
        scheduler = self._scheduler
        self._tell(self._watcher.busy, count_rows(scheduler.running), count_rows(scheduler.waiting))

    @staticmethod
    def _tell(listener: Callable[..., None], *news: Any) -> None:
        try:
            listener(*news)
        except Exception:
            logger.exception("the engine's watcher failed")
