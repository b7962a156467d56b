"""A scheduler on a device whose calls cost what the test says, and a clock that nobody waits for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.engine import CallSizes, CostModel, EngineLimits, Priority, Scheduler, Segment
from services.engine.jobs import Batch, Job

COSTS = {"base": 1.0, "up": 3.0}


@dataclass
class Device:
    """A scheduler on a device, and what became of its jobs.

    A network's smallest calls cost what ``COSTS`` says, and others so much more for each evaluation as
    ``growth`` says: 0, nothing; 1, in proportion.
    """

    sizes: CallSizes = field(default_factory=lambda: CallSizes(8, {"base": (2,), "up": (1,)}))
    growth: float = 0.0
    limits: EngineLimits = field(default_factory=lambda: EngineLimits(100, 100))
    now: float = 0.0
    ended: dict[Job, float] = field(default_factory=dict)
    missed: list[Job] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.limits, CostModel(self.sizes), lambda: self.now)
        for network in COSTS:
            for evaluations in self.sizes.by_network.get(network) or (self.sizes.full(network),):
                self.scheduler.costs.measured(network, evaluations, self.seconds(network, evaluations))

    def seconds(self, network: str, evaluations: int) -> float:
        """What a call costs."""
        smallest = min(self.sizes.by_network.get(network) or (evaluations,))
        more = self.sizes.padded(network, evaluations) / smallest - 1
        return COSTS[network] * (1 + self.growth * more)

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
        seconds = self.seconds(batch.network, batch.evaluations)
        self.now += seconds
        for job in self.scheduler.stepped(batch, seconds):
            self.ended[job] = self.now
        return True

    def run(self, until: float = math.inf) -> None:
        while self.now < until and self.step():
            pass


def picture(steps: int = 4, ups: int = 2, evaluations: int = 2) -> list[Segment]:
    """A guided row: one fills a call of the base network."""
    return [Segment("base", steps, evaluations), Segment("up", ups)]
