"""The replicas of a stage, who is asked, and how they come and go."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable
from typing import Literal

from deploy.simulation.profile import Profile
from deploy.simulation.replica import Replica, Told
from gateway.stages.backlog import SamplingStage
from gateway.stages.budget import Budget
from services.engine.errors import EngineStopped
from services.engine.jobs import Plan
from services.wire.errors import StageUnavailable

# Who is asked. By their requests the best of eight, as the shipped router does it, or of two, as Ray Serve
# does; each in turn, which is Serve's with a proxy beside each replica; by the seconds of work that they
# have, the best of all.
Routing = Literal["requests of eight", "requests of two", "in turn", "work of all"]
EIGHT = 8
ATTEMPTS = 3  # as of the gateway's channels
RETRY_SECONDS = 0.2
ZONES = 3


class Fleet:
    """One stage."""

    def __init__(
        self, stage: SamplingStage, profile: Profile, count: int, routing: Routing, dice: random.Random
    ) -> None:
        self.stage = stage
        self.lost: list[Replica] = []
        self._profile = profile
        self._routing = routing
        self._dice = dice
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self.replicas = [self._new() for _ in range(count)]

    @property
    def busy_seconds(self) -> float:
        """Of all replicas that there ever were."""
        return sum(replica.busy_seconds for replica in (*self.replicas, *self.lost))

    def chosen(self) -> Replica:
        """Who is asked next, of those that are there."""
        if self._routing == "work of all":
            return min(self.replicas, key=_work)
        if self._routing == "in turn":
            return self.replicas[next(self._turns) % len(self.replicas)]
        count = min(EIGHT if self._routing == "requests of eight" else 2, len(self.replicas))
        return min(self._dice.sample(self.replicas, count), key=lambda replica: replica.requests)

    async def run(self, plan: Plan, budget: Budget, told: Callable[[Replica], Told]) -> None:
        """Do one picture's work at some replica; at another one if that dies.

        Raises EngineError and StageUnavailable.
        """
        for attempt in range(ATTEMPTS):
            while not self.replicas:  # Serve's proxy keeps what it is sent
                await asyncio.sleep(RETRY_SECONDS)
            replica = self.chosen()
            try:
                left = budget.seconds_left if budget.is_deadline else math.inf
                return await replica.run(plan, left, budget.priority, budget.lag_left, told(replica))
            except EngineStopped:
                await asyncio.sleep(RETRY_SECONDS * 5**attempt)
        raise StageUnavailable("replicas died, one after another")

    async def lose(self, share: float) -> None:
        """A share of the replicas dies at once, and as many start."""
        count = round(share * len(self.replicas))
        for replica in self._dice.sample(self.replicas, count):
            self._retire(replica)
            replica.die()
        await asyncio.sleep(self._profile.cold_start_seconds)
        self.grow(count)

    async def roll(self, surge: float = 0.25) -> None:
        """A rolling update: new replicas start before as many old ones drain."""
        old = list(self.replicas)
        step = max(1, round(surge * len(old)))
        for start in range(0, len(old), step):
            await asyncio.sleep(self._profile.cold_start_seconds)
            going = old[start : start + step]
            self.grow(len(going))
            for replica in going:
                self._retire(replica)  # it ends what it has, and gets nothing new

    def grow(self, count: int) -> None:
        """More replicas, which serve at once."""
        self.replicas += [self._new() for _ in range(count)]

    def _retire(self, replica: Replica) -> None:
        self.replicas.remove(replica)
        self.lost.append(replica)

    def _new(self) -> Replica:
        stage = self._profile.prior if self.stage == "prior" else self._profile.decoder
        name = f"{self.stage}-{next(self._numbers)}"
        profile = self._profile
        dice = random.Random(self._dice.random())
        return Replica(name, stage, profile.noise, profile.step_overhead_seconds, dice)


def _work(replica: Replica) -> float:
    return replica.load.backlog_seconds
