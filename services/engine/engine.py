"""The step engine: runs the scheduler's steps in a thread, and tells callers what happens to their rows.

asyncio and one thread. The thread does all that touches tensors: it starts rows, takes steps, makes previews
and results.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from services.engine.capacity import EngineLimits
from services.engine.costs import CallSizes, CostModel
from services.engine.errors import DeadlineMissed, DeadlineUnreachable, EngineStopped, QueueFull, StepFailed
from services.engine.events import Alive, Event, Finished, Queued, Stepped
from services.engine.jobs import Batch, Job, Priority
from services.engine.scheduler import Load, Scheduler
from services.engine.watcher import Ending, Stay, Watcher
from services.engine.worker import Admitted, Task, take_step

logger = logging.getLogger(__name__)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
FIRST_STEPS = 2  # of each kind of call, of which nothing is learnt
FAILURES = 3  # of one kind in a row that make an engine unhealthy
# The worker hangs if it takes this many times as long as expected, and longer than ``hang_seconds``; what was
# never measured may take this many times those seconds.
HANG_FACTOR = 20.0
UNMEASURED_FACTOR = 10.0
HEARTBEAT_SECONDS = 5.0  # the longest that a caller hears nothing


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
        hang_seconds: float = 30.0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._advance = advance
        self._scheduler = Scheduler(limits, CostModel(sizes), time.monotonic)
        self._watcher = watcher or Watcher()
        self._hang_seconds = hang_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._admitted: dict[Job, Admitted[R]] = {}
        self._failures: Counter[str] = Counter()  # of each kind, since the last success
        self._hangs = False
        # By network, shape and evaluations. The first steps take longer: calls are compared with others then.
        self._taken: Counter[tuple[str, tuple[int, ...], int]] = Counter()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="step")
        self._loop: asyncio.Task[None] | None = None

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return self._scheduler.load

    def check(self) -> None:
        """Raises EngineStopped if the worker hangs or keeps failing: the replica should be replaced."""
        if self._hangs:
            raise EngineStopped("the worker hangs")
        for kind, count in self._failures.items():
            if count >= FAILURES:
                raise EngineStopped(f"{kind} failed {count} times in a row")

    async def run(
        self,
        task: Task[R],
        *,
        deadline: float = math.inf,
        priority: Priority = "interactive",
        lag: float = 0.0,
    ) -> AsyncGenerator[Event, None]:
        """Run a task, yielding what happens and at last its result; closing the generator frees its places.

        deadline: on the ``time.monotonic`` clock. lag: as the scheduler's. Raises Overloaded or
        DeadlineMissed before any row has run, DeadlineMissed when the deadline passes, even in the middle of
        a step; StepFailed; EngineStopped.
        """
        admitted = self._admit(task, deadline, priority, lag)
        job = admitted.job
        ending: Ending = "cancelled"
        try:
            yield Queued(self._scheduler.rows_ahead(job))
            while True:
                events = await admitted.outbox.take(deadline, self._heartbeat_seconds)
                for event in events or [self._sign_of_life(job)]:
                    if isinstance(event, Finished):
                        ending = "finished"
                    yield event
                    if isinstance(event, Finished):
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

    def _admit(self, task: Task[R], deadline: float, priority: Priority, lag: float) -> Admitted[R]:
        if self._hangs:
            raise EngineStopped("the worker hangs")
        try:
            job = self._scheduler.admit(task.plans, deadline, priority, lag)
        except QueueFull:
            self._tell(self._watcher.refused, "queue_full")
            raise
        except (DeadlineMissed, DeadlineUnreachable):
            self._tell(self._watcher.refused, "deadline")
            raise
        admitted = Admitted(task, job)
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
            self._failures["the loop"] = FAILURES
            self._fail_all(EngineStopped("the engine failed"))

    def _next_batch(self) -> Batch | None:
        for job in self._scheduler.expire():
            if admitted := self._admitted.pop(job, None):
                admitted.outbox.fail(DeadlineMissed("the deadline has passed"))
        return self._scheduler.pick()

    async def _step(self, batch: Batch) -> None:
        for job in batch.jobs:
            if job.batches == 0:
                self._tell(self._watcher.started, len(job.rows), self._waited(job))
        work = [(self._admitted[job], i) for job, i in batch.rows]
        started = time.monotonic()
        future, hung = await self._in_worker(batch, take_step, self._advance, work)
        seconds = time.monotonic() - started
        full_seconds = self._scheduler.in_full_calls(batch, seconds)
        self._tell(
            self._watcher.stepped, batch.network, len(batch.rows), batch.occupancy, seconds, full_seconds
        )
        tasks = list(dict.fromkeys(admitted for admitted, _ in work))
        if (error := future.exception()) is not None:
            self._failures["a step"] += 1
            logger.error("a step of %d rows failed", len(batch.rows), exc_info=error)
            self._scheduler.failed(batch)
            for admitted in tasks:
                self._fail(admitted, error)
            return
        broken = future.result()
        for admitted, cause in broken:
            logger.error("a task could not start", exc_info=cause)
            self._fail(admitted, cause)
        if len(broken) == len(tasks):
            self._failures["the start of a task"] += 1
            self._scheduler.failed(batch)
            return
        del self._failures["a step"], self._failures["the start of a task"]
        call = batch.network, batch.shape, batch.evaluations
        usual = not hung and self._taken[call] >= FIRST_STEPS
        self._taken[call] += 1
        finished = self._scheduler.stepped(batch, seconds, usual=usual)
        present = [admitted for admitted in tasks if admitted.job in self._admitted]
        for admitted in present:
            self._report(admitted, batch, done=admitted.job in finished)
        self._tell_load()
        for admitted in present:
            if admitted.job in finished:
                await self._finish(admitted, batch)

    def _sign_of_life(self, job: Job) -> Event:
        """What a caller is told when nothing has happened for a while: its place if it waits."""
        return Queued(self._scheduler.rows_ahead(job)) if job.began is None else Alive()

    async def _in_worker(
        self, batch: Batch, work: Callable[..., Any], *arguments: Any
    ) -> tuple[asyncio.Future[Any], bool]:
        """Have the worker do something for a batch. While it hangs, nobody is kept waiting for it.

        Returns the future, which is done, and whether it hung.
        """
        future = asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)
        patience = UNMEASURED_FACTOR * self._hang_seconds
        if batch.expected_seconds:
            patience = max(self._hang_seconds, HANG_FACTOR * batch.expected_seconds)
        await asyncio.wait([future], timeout=patience)
        hung = not future.done()
        if hung:
            logger.error("a step of %s hangs: it takes longer than %.0f s", batch.network, patience)
            self._hangs = True
            self._fail_all(EngineStopped("the worker hangs"))
            await asyncio.wait([future])
            self._hangs = False
        return future, hung

    def _report(self, admitted: Admitted[R], batch: Batch, *, done: bool) -> None:
        """Tell how far the job's slowest row is in the network of this step, and what there is to see."""
        steps = sum(s.steps for s in admitted.job.rows[0].plan if s.network == batch.network)
        left = max(
            sum(segment.steps for segment in row.left() if segment.network == batch.network)
            for row in admitted.job.rows
        )
        admitted.outbox.put(Stepped(batch.network, steps - left, steps), wake=not done)

    async def _finish(self, admitted: Admitted[R], batch: Batch) -> None:
        """Make the result of a task whose rows are all done; one that cannot be made fails alone."""
        future, _ = await self._in_worker(batch, admitted.task.finish)
        if (error := future.exception()) is not None:
            self._failures["a result"] += 1
            logger.error("a result could not be made", exc_info=error)
            self._fail(admitted, error)
        else:
            del self._failures["a result"]
            admitted.outbox.put(Finished(future.result()))

    def _fail(self, admitted: Admitted[R], cause: BaseException) -> None:
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
        occupancy = job.occupancy / max(job.batches, 1)
        return Stay(len(job.rows), self._waited(job), job.batches, job.row_steps, occupancy)

    @staticmethod
    def _waited(job: Job) -> float:
        """Seconds until the first step, or until now."""
        return (time.monotonic() if job.began is None else job.began) - job.arrived

    def _tell_load(self) -> None:
        load = self.load
        self._tell(self._watcher.busy, load.running, load.waiting)

    @staticmethod
    def _tell(listener: Callable[..., None], *news: Any) -> None:
        try:
            listener(*news)
        except Exception:
            logger.exception("the engine's watcher failed")
