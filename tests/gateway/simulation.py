"""Gateways in front of two stages, on a clock that nobody waits for: doors, engines and the words between.

The doors and the schedulers are the real ones. A picture is drawn as the local stack draws it: candidates by
the prior, then one guided row a call of the decoder's base network, then the upsampler.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway import readiness
from gateway.admission import Admission
from gateway.events import Drawn, Progressed, Queued, Step
from gateway.ledger import Demand, Ticket
from gateway.stages.backlog import Backlog, SamplingStage, Steps
from gateway.stages.budget import Budget
from services.engine import (
    CallSizes,
    CostModel,
    DeadlineUnreachable,
    EngineLimits,
    QueueFull,
    Scheduler,
    Segment,
)
from services.engine import DeadlineMissed as TooLate
from services.engine.jobs import Batch, Job
from services.serving.engine import load_message
from services.wire.errors import DeadlineMissed, Overloaded

SECONDS = {"prior": 0.1, "base": 0.07, "upsampler": 0.12}
SIDES = {"prior": 0, "base": 64, "upsampler": 256}
DEMANDS = (
    Demand("prior", ((Steps(0, 4, 2),),), rows=2),
    Demand("decoder", ((Steps(64, 8, 2), Steps(256, 2)),)),
)
PLANS = {
    "prior": [[Segment("prior", 4, 2)]] * 2,
    "decoder": [[Segment("base", 8, 2), Segment("upsampler", 2)]],
}
ALONE = 8 * SECONDS["base"] + 2 * SECONDS["upsampler"]  # which is also what one more picture takes
LISTEN_SECONDS = readiness.LISTEN_SECONDS
LIMITS = EngineLimits(32, 64)


@dataclass(eq=False)
class Request:
    """One picture that a caller asks for."""

    number: int
    gateway: Gateway
    deadline: float
    hold: contextlib.ExitStack
    ticket: Ticket


class Timed(Budget):
    """A budget on the simulation's clock, as it was made."""

    @property
    def seconds_left(self) -> float:
        return self.seconds


class Gateway:
    """A door, and what it has heard of the stages."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.backlogs: dict[SamplingStage, Backlog] = {s: Backlog(clock) for s in ("prior", "decoder")}
        self.door = Admission(self.backlogs, clock)


@dataclass(eq=False)
class StageOfOne:
    """A stage of one replica: an engine's scheduler, and whose its jobs are."""

    name: SamplingStage
    scheduler: Scheduler
    requests: dict[Job, Request] = field(default_factory=dict)
    working: bool = False

    @property
    def load(self) -> Any:
        return load_message(self.scheduler.load, LIMITS, "one", SIDES.__getitem__)


@dataclass
class Simulation:
    """So many gateways; requests come to them in turn.

    noise: the spread of what steps really take. shared: how much slower they are while the other stage works,
    as on shared cores. spells: how much slower they are in every other six seconds.
    """

    gateways: int
    noise: float = 0.1
    shared: float = 1.3
    spells: float = 1.2
    seed: int = 7
    now: float = 0.0
    done: list[float] = field(default_factory=list)
    refused: int = 0
    refused_late: int = 0
    missed: int = 0
    row_steps: int = 0
    in_vain: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.doors = [Gateway(lambda: self.now) for _ in range(self.gateways)]
        sizes = {"prior": CallSizes(8), "decoder": CallSizes(8, {"base": (2,), "upsampler": (1,)})}
        self._stages: dict[SamplingStage, StageOfOne] = {
            name: StageOfOne(name, Scheduler(LIMITS, CostModel(sizes[name]), lambda: self.now))
            for name in ("prior", "decoder")
        }
        for network, seconds in SECONDS.items():
            costs = self._stages["prior" if network == "prior" else "decoder"].scheduler.costs
            costs.measured(network, costs.sizes.full(network), seconds)
        self._look()

    def run(self, rate: float, deadline: Callable[[random.Random], float], seconds: float) -> None:
        """Requests arrive at random, so many a second, until then; the last are waited for."""
        turns = itertools.cycle(self.doors)
        at = self._dice.expovariate(rate)
        while at < seconds:
            budget = deadline(self._dice)
            self._at(at, partial(self._arrive, next(turns), budget))
            at += self._dice.expovariate(rate)
        while self._events and self.now < seconds + 60:
            self.now, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _look(self) -> None:
        for gateway, stage in itertools.product(self.doors, self._stages.values()):
            gateway.backlogs[stage.name].told(stage.load)
        self._at(self.now + LISTEN_SECONDS, self._look)

    def _arrive(self, gateway: Gateway, seconds: float) -> None:
        hold = contextlib.ExitStack()
        try:
            ticket = hold.enter_context(gateway.door.admitted(DEMANDS, 1, Timed(seconds, "id")))
        except (Overloaded, DeadlineMissed):
            self.refused += 1
            return
        request = Request(next(self._numbers), gateway, self.now + seconds, hold, ticket)
        self._enter("prior", request)

    def _enter(self, name: SamplingStage, request: Request) -> None:
        stage = self._stages[name]
        try:
            job = stage.scheduler.admit(PLANS[name], request.deadline)
        except (QueueFull, DeadlineUnreachable, TooLate):
            self.refused_late += 1
            self.in_vain += 8 if name == "decoder" else 0
            request.hold.close()
            return
        stage.requests[job] = request
        self._tell(stage, request, Queued(name, 0))
        if not stage.working:
            self._step(stage)

    def _step(self, stage: StageOfOne) -> None:
        for job in stage.scheduler.expire():
            self._miss(stage, job)
        batch = stage.scheduler.pick()
        stage.working = batch is not None
        if batch is not None:
            seconds = SECONDS[batch.network] * max(0.3, self._dice.gauss(1, self.noise))
            if any(other.working for other in self._stages.values() if other is not stage):
                seconds *= self.shared
            if int(self.now / 6) % 2:
                seconds *= self.spells
            self._at(self.now + seconds, lambda: self._stepped(stage, batch, seconds))

    def _stepped(self, stage: StageOfOne, batch: Batch, seconds: float) -> None:
        finished = stage.scheduler.stepped(batch, seconds)
        self.row_steps += len(batch.rows)
        for job in batch.jobs:
            if job in stage.requests and job not in finished:
                step: Step = "prior" if stage.name == "prior" else "decoder"
                step = "upsampler" if batch.network == "upsampler" else step
                plan = [s for s in job.rows[0].plan if s.network == batch.network]
                total = sum(s.steps for s in plan)
                left = sum(s.steps for s in job.rows[0].left() if s.network == batch.network)
                self._tell(stage, stage.requests[job], Progressed(step, total - left, total))
        for job in finished:
            self._finish(stage, stage.requests.pop(job))
        self._step(stage)

    def _finish(self, stage: StageOfOne, request: Request) -> None:
        if stage.name == "prior":
            self._enter("decoder", request)
            return
        request.ticket.observe(0, Drawn(None))  # type: ignore[arg-type]
        request.hold.close()
        if self.now <= request.deadline:
            self.done.append(self.now)
        else:
            self.missed += 1

    def _miss(self, stage: StageOfOne, job: Job) -> None:
        self.missed += 1
        self.in_vain += 18
        stage.requests.pop(job).hold.close()

    def _tell(self, stage: StageOfOne, request: Request, event: Queued | Progressed) -> None:
        request.gateway.backlogs[stage.name].told(stage.load)
        request.ticket.observe(0, event)
