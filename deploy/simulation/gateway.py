"""A gateway: the real admission, and requests that go through the stages as the flows have it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.simulation.arrivals import Arrival
from deploy.simulation.fleet import Fleet
from deploy.simulation.profile import Profile
from deploy.simulation.replica import Replica, Told
from gateway.admission import Admission
from gateway.events import Drawn, Event, Progressed
from gateway.ledger import Demand, Ticket
from gateway.places import Places, refusal
from gateway.readiness import LISTEN_SECONDS
from gateway.stages.backlog import Backlog, SamplingStage, Steps
from gateway.stages.budget import Budget
from services import engine
from services.wire.errors import DeadlineMissed, Overloaded, StageUnavailable

Ending = Literal["done", "refused", "refused late", "missed", "failed"]
MAX_REQUESTS = 256
MAX_BYTES = 384 * 2**20


@dataclass(frozen=True)
class Outcome:
    """How a request ended, after so many seconds; wait: of them, until its first step."""

    arrival: Arrival
    ending: Ending
    seconds: float
    wait: float


class Gateway:
    """One of several, which know of one another only what stages tell.

    in_flight: requests of the flood at a time; 0: any number.
    """

    def __init__(
        self, fleets: Mapping[SamplingStage, Fleet], profile: Profile, in_flight: int, dice: random.Random
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        self._fleets = fleets
        self._profile = profile
        self._in_flight = in_flight
        self._dice = dice
        self._flood = 0
        backlogs: dict[SamplingStage, Backlog] = {stage: Backlog(self._clock) for stage in fleets}
        self.admission = Admission(backlogs, self._clock)
        self._places = Places(MAX_REQUESTS, MAX_BYTES, lambda: self.admission.wait)

    async def listen(self) -> None:
        """Hear of the stages' load often, as the real one does while it is at work."""
        while True:
            for stage, fleet in self._fleets.items():
                backlog = self.admission.ledgers[stage].backlog
                if fleet.replicas and not backlog.heard(LISTEN_SECONDS):
                    backlog.told(fleet.chosen().load)
            await asyncio.sleep(LISTEN_SECONDS)

    async def serve(self, arrival: Arrival) -> Outcome:
        """A request from its arrival to its end, whatever that is."""
        started = self._clock()
        first: list[float] = []
        ending = await self._ending(arrival, first)
        wait = (first[0] if first else self._clock()) - started
        return Outcome(arrival, ending, self._clock() - started, wait)

    async def _ending(self, arrival: Arrival, first: list[float]) -> Ending:
        budget = Budget(arrival.deadline, "", arrival.priority, clock=self._clock)
        try:
            with (
                self._quota(arrival.floods),
                self._places.place(),
                self.admission.admitted(self._demands(arrival), arrival.pictures, budget) as ticket,
            ):
                try:
                    async with asyncio.timeout(arrival.deadline):
                        await self._draw(arrival, budget, ticket, first)
                except (Overloaded, engine.Overloaded):
                    return "refused late"
            return "done"
        except (TimeoutError, DeadlineMissed, engine.DeadlineMissed):
            return "missed"
        except Overloaded:
            return "refused"
        except StageUnavailable:
            return "failed"

    @contextlib.contextmanager
    def _quota(self, floods: bool) -> Iterator[None]:
        if floods and self._in_flight and self._flood >= self._in_flight:
            raise refusal("quota", "too many at a time", 1.0)
        self._flood += floods
        try:
            yield
        finally:
            self._flood -= floods

    def _demands(self, arrival: Arrival) -> tuple[Demand, ...]:
        stages: tuple[SamplingStage, ...] = ("decoder",) if arrival.flow == "vary" else ("prior", "decoder")
        return tuple(self._demand(stage, arrival.steps if stage == "decoder" else 0) for stage in stages)

    def _demand(self, stage: SamplingStage, steps: int) -> Demand:
        profile = self._profile.prior if stage == "prior" else self._profile.decoder
        first, *rest = (Steps(n.size, n.steps, n.evaluations) for n in profile.networks)
        own = Steps(first.size, steps or first.steps, first.evaluations)
        return Demand(stage, ((own, *rest),), profile.rows)

    async def _draw(self, arrival: Arrival, budget: Budget, ticket: Ticket, first: list[float]) -> None:
        await asyncio.sleep(self._profile.encoder_seconds + 2 * self._profile.hop_seconds)
        try:
            async with asyncio.TaskGroup() as pictures:
                for index in range(arrival.pictures):
                    pictures.create_task(self._picture(index, arrival, budget, ticket, first))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _picture(
        self, index: int, arrival: Arrival, budget: Budget, ticket: Ticket, first: list[float]
    ) -> None:
        for demand in self._demands(arrival):
            profile = self._profile.prior if demand.stage == "prior" else self._profile.decoder
            plan = profile.plan(arrival.steps if demand.stage == "decoder" else 0)
            told = self._telling(demand.stage, index, ticket, first)
            await asyncio.sleep(self._profile.hop_seconds)
            await self._fleets[demand.stage].run(plan, budget, told)
            await asyncio.sleep(self._profile.hop_seconds)
        ticket.observe(index, Drawn(None))  # type: ignore[arg-type]  # no pixels are drawn here

    def _telling(
        self, stage: SamplingStage, index: int, ticket: Ticket, first: list[float]
    ) -> Callable[[Replica], Told]:
        """What is noted of each step, by the replica that takes it."""
        networks = (self._profile.prior if stage == "prior" else self._profile.decoder).networks
        backlog = self.admission.ledgers[stage].backlog

        def by(replica: Replica) -> Told:
            def told(network: str, step: int, steps: int) -> None:
                if step and not first:
                    first.append(self._clock())
                backlog.told(replica.load)
                raised = stage == "decoder" and network != str(networks[0].size)
                event: Event = Progressed("upsampler" if raised else stage, step, steps)
                ticket.observe(index, event)

            return told

        return by
