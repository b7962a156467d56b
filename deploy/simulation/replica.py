"""A replica of a sampling stage: the real scheduler, and a device that takes as long as the profile says."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.simulation.profile import StageProfile
from services.engine import CostModel, DeadlineMissed, Load, Priority, Scheduler
from services.engine.errors import EngineStopped
from services.engine.jobs import Batch, Job, Plan
from services.serving.engine import load_message
from unclip.internal.v1 import sampling_pb2

# Of a network: steps done, none as long as the picture waits for its first, and of how many.
Told = Callable[[str, int, int], None]


@dataclass(eq=False)
class Run:
    """One picture at a replica."""

    job: Job
    told: Told
    done: asyncio.Future[None]


@dataclass(eq=False)
class Replica:
    """Steps until it has no work; whoever starts work may be refused, as by the real one."""

    name: str
    profile: StageProfile
    noise: float
    overhead: float
    dice: random.Random
    busy_seconds: float = 0.0
    alive: bool = True
    _runs: dict[Job, Run] = field(default_factory=dict)
    _steps: asyncio.Task[None] | None = None
    _warm: set[str] = field(default_factory=set)
    _message: tuple[Load, sampling_pb2.EngineLoad] | None = None

    def __post_init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self.scheduler = Scheduler(self.profile.limits, CostModel(self.profile.call_sizes), self._clock)

    @property
    def requests(self) -> int:
        """Under way here."""
        return len(self._runs)

    @property
    def load(self) -> sampling_pb2.EngineLoad:
        """What it tells of itself."""
        load = self.scheduler.load
        if self._message is None or self._message[0] is not load:
            self._message = load, load_message(load, self.profile.limits, self.name, int)
        return self._message[1]

    async def run(self, plan: Plan, seconds_left: float, priority: Priority, lag: float, told: Told) -> None:
        """Do one picture's work. Raises EngineError."""
        if not self.alive:
            raise EngineStopped("the replica is gone")
        deadline = self._clock() + seconds_left
        job = self.scheduler.admit([plan] * self.profile.rows, deadline, priority, lag)
        run = Run(job, told, asyncio.get_running_loop().create_future())
        self._runs[job] = run
        self._tell(job, plan[0].network, finished=False)
        if self._steps is None or self._steps.done():
            self._steps = asyncio.create_task(self._run_steps())
        try:
            async with asyncio.timeout_at(None if seconds_left == math.inf else deadline):
                await run.done
        except TimeoutError:
            raise DeadlineMissed("the deadline has passed") from None
        finally:
            self.scheduler.remove(job)
            self._runs.pop(job, None)

    def die(self) -> None:
        """At once, with all that it was doing."""
        self.alive = False
        if self._steps is not None:
            self._steps.cancel()
        for run in self._runs.values():
            if not run.done.done():
                run.done.set_exception(EngineStopped("the replica died"))

    async def _run_steps(self) -> None:
        while (batch := self._next_batch()) is not None:
            seconds = self._seconds(batch)
            await asyncio.sleep(seconds + self.overhead)
            self.busy_seconds += seconds
            usual = batch.network in self._warm
            self._warm.add(batch.network)
            finished = self.scheduler.stepped(batch, seconds, usual=usual)
            for job in batch.jobs:
                self._tell(job, batch.network, finished=job in finished)
            await asyncio.sleep(0)

    def _next_batch(self) -> Batch | None:
        self.scheduler.expire()
        return self.scheduler.pick()

    def _seconds(self, batch: Batch) -> float:
        spread = self.dice.lognormvariate(-(self.noise**2) / 2, self.noise)
        return self.profile.network(batch.network).seconds(batch.evaluations) * spread

    def _tell(self, job: Job, network: str, *, finished: bool) -> None:
        run = self._runs.get(job)
        if run is None or run.done.done():
            return
        steps = sum(segment.steps for segment in job.rows[0].plan if segment.network == network)
        left = max(sum(s.steps for s in row.left() if s.network == network) for row in job.rows)
        run.told(network, steps - left, steps)
        if finished:
            run.done.set_result(None)
