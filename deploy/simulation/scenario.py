"""A scenario and what comes of it: so many replicas and gateways, a trace, and what goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.simulation.arrivals import Trace, arrivals
from deploy.simulation.clock import simulated
from deploy.simulation.fleet import ZONES, Fleet, Routing
from deploy.simulation.gateway import Gateway, Outcome
from deploy.simulation.profile import Profile
from gateway.stages.backlog import SamplingStage

Fault = Literal["none", "deaths", "zone", "rollout", "cold start"]
WARM_UP_SHARE = 0.1  # of the time, which does not count
DEATHS = 0.1  # of the replicas
COLD_SHARE = 0.5  # of the replicas, which are not there yet


@dataclass(frozen=True)
class Scenario:
    """rate: pictures a second that are asked for. deadline: of interactive requests, in seconds.

    in_flight: requests of the flood at a time, at each gateway; 0: any number.
    """

    profile: Profile
    rate: float
    deadline: float
    priors: int
    decoders: int
    gateways: int = 1
    seconds: float = 300.0
    trace: Trace = "steady"
    fault: Fault = "none"
    routing: Routing = "requests of eight"
    in_flight: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """Shares are of requests, but for goodput: pictures that were in time, of all that were asked for.

    busy_*: share of the replicas' time. price: of a thousand pictures.
    """

    asked: int
    goodput: float
    refused: float
    refused_late: float
    missed: float
    failed: float
    p50: float
    p99: float
    wait_p50: float
    busy_prior: float
    busy_decoder: float
    price: float

    @property
    def lost(self) -> float:
        """Requests that were neither drawn nor refused at once."""
        return self.refused_late + self.missed + self.failed


def run(scenario: Scenario) -> Report:
    """Simulate it. The same scenario gives the same report."""
    return simulated(_run(scenario))


async def _run(scenario: Scenario) -> Report:
    loop = asyncio.get_running_loop()
    dice = random.Random(scenario.seed)
    counts: dict[SamplingStage, int] = {"prior": scenario.priors, "decoder": scenario.decoders}
    cold = scenario.fault == "cold start"
    fleets = {
        stage: Fleet(
            stage,
            scenario.profile,
            max(1, round(COLD_SHARE * count)) if cold else count,
            scenario.routing,
            random.Random(dice.random()),
        )
        for stage, count in counts.items()
    }
    gateways = [
        Gateway(fleets, scenario.profile, scenario.in_flight, random.Random(dice.random()))
        for _ in range(scenario.gateways)
    ]
    background = [asyncio.create_task(gateway.listen()) for gateway in gateways]
    background.append(asyncio.create_task(_fault(scenario, fleets, counts)))
    own = random.Random(scenario.seed)  # so that the requests do not depend on the cluster
    trace = arrivals(scenario.trace, scenario.rate, scenario.seconds, scenario.deadline, own)
    calls: list[asyncio.Task[Outcome]] = []
    for arrival in trace:
        await asyncio.sleep(arrival.at - loop.time())
        calls.append(asyncio.create_task(dice.choice(gateways).serve(arrival)))
    busy = {stage: fleet.busy_seconds for stage, fleet in fleets.items()}
    outcomes = await asyncio.gather(*calls)
    for task in background:
        task.cancel()
    return report_of(scenario, outcomes, busy)


async def _fault(
    scenario: Scenario, fleets: dict[SamplingStage, Fleet], counts: dict[SamplingStage, int]
) -> None:
    """What goes wrong, a third into the time; a cold start begins with it."""
    if scenario.fault == "cold start":
        await asyncio.sleep(scenario.profile.cold_start_seconds)
        for stage, fleet in fleets.items():
            fleet.grow(counts[stage] - len(fleet.replicas))
        return
    await asyncio.sleep(scenario.seconds / 3)
    async with asyncio.TaskGroup() as happening:
        for fleet in fleets.values():
            if scenario.fault == "deaths":
                happening.create_task(fleet.lose(DEATHS))
            elif scenario.fault == "zone":
                happening.create_task(fleet.lose(1 / ZONES))
            elif scenario.fault == "rollout":
                happening.create_task(fleet.roll())


def report_of(
    scenario: Scenario, outcomes: Sequence[Outcome], busy: Mapping[SamplingStage, float] | None = None
) -> Report:
    """What became of the requests. busy: seconds of the stages; none where nobody knows."""
    busy = busy or {"prior": 0.0, "decoder": 0.0}
    after = WARM_UP_SHARE * scenario.seconds
    counted = [o for o in outcomes if o.arrival.at >= after and not o.arrival.floods]
    total = max(1, len(counted))
    endings = {
        ending: sum(o.ending == ending for o in counted) / total
        for ending in ("refused", "refused late", "missed", "failed")
    }
    done = [o for o in counted if o.ending == "done"]
    drawn = sum(o.arrival.pictures for o in done)
    replicas = scenario.priors + scenario.decoders
    price = scenario.profile.hourly_price * replicas * (scenario.seconds - after) / 3600
    interactive = [o for o in done if o.arrival.priority == "interactive"]
    return Report(
        asked=len(counted),
        goodput=drawn / max(1, sum(o.arrival.pictures for o in counted)),
        refused=endings["refused"],
        refused_late=endings["refused late"],
        missed=endings["missed"],
        failed=endings["failed"],
        p50=quantile([o.seconds for o in interactive], 0.5),
        p99=quantile([o.seconds for o in interactive], 0.99),
        wait_p50=quantile([o.wait for o in interactive], 0.5),
        busy_prior=busy["prior"] / scenario.priors / scenario.seconds,
        busy_decoder=busy["decoder"] / scenario.decoders / scenario.seconds,
        price=1000 * price / max(1, drawn),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
