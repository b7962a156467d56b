"""A scheduler on a device whose calls cost what the test says, and a clock that nobody waits for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.engine import CallSizes, CostModel, EngineLimits, Priority, Scheduler, Segment
from services.engine.jobs import Batch, Job

COSTS = {"base": 1.0, "up": 3.0}


@dataclass
class Device:
    """A scheduler on a device whose calls cost what ``COSTS`` says, and what became of its jobs."""

    sizes: CallSizes = field(default_factory=lambda: CallSizes(8, {"base": (2,), "up": (1,)}))
    limits: EngineLimits = field(default_factory=lambda: EngineLimits(100, 100))
    now: float = 0.0
    ended: dict[Job, float] = field(default_factory=dict)
    missed: list[Job] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.limits, CostModel(self.sizes), lambda: self.now)
        for network, seconds in COSTS.items():
            self.scheduler.costs.measured(network, self.sizes.full(network), seconds)

    def admit(
        self,
        *plans: list[Segment],
        within: float = math.inf,
        priority: Priority = "interactive",
        lag: float = 0.0,
    ) -> Job:
        return self.scheduler.admit(plans or [picture()], self.now + within, priority, lag)

    def step(self) -> bool:
        self.missed += self.scheduler.expire()
        batch = self.scheduler.pick()
        if batch is None:
            return False
        self.batches.append(batch)
        self.now += COSTS[batch.network]
        for job in self.scheduler.stepped(batch, COSTS[batch.network]):
            self.ended[job] = self.now
        return True

    def run(self, until: float = math.inf) -> None:
        while self.now < until and self.step():
            pass


def picture(steps: int = 4, ups: int = 2, evaluations: int = 2) -> list[Segment]:
    """A guided row: one fills a call of the base network."""
    return [Segment("base", steps, evaluations), Segment("up", ups)]
