"""How many replicas of each stage a rate of pictures needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from deploy.simulation.scenario import Report, Scenario, run

GOAL = 0.99  # of the pictures, that are in time
ROOM = 2.0  # times the replicas that full calls would need, where the search begins to give up
TOO_FEW = 0.8  # times them, with which no goal is reached: not all requests need each stage


def sized(scenario: Scenario, goal: float = GOAL) -> tuple[Scenario, Report]:
    """The scenario with the fewest decoders, and then the fewest priors, that reach the goal.

    Raises ValueError if no number of replicas does: a picture takes longer than the deadline, say.
    """
    profile = scenario.profile
    needed = {
        "priors": scenario.rate / profile.prior.pictures_a_second,
        "decoders": scenario.rate / profile.decoder.pictures_a_second,
    }
    most = {name: math.ceil(ROOM * count) + 2 for name, count in needed.items()}
    best = replace(scenario, priors=most["priors"], decoders=most["decoders"])
    while not reaches(best, goal):
        if best.decoders > 8 * most["decoders"]:
            raise ValueError(
                f"no number of replicas draws {goal:.0%} of the pictures in {scenario.deadline} s"
            )
        best = replace(best, priors=2 * best.priors, decoders=2 * best.decoders)
    for name in ("decoders", "priors"):
        # These would take longest to simulate. What is there at the end is worked on after it.
        share = TOO_FEW * goal * scenario.seconds / (scenario.seconds + scenario.deadline)
        too_few = math.floor(share * needed[name])
        best = _fewest(best, name, too_few, lambda tried: reaches(tried, goal))
    return best, run(best)


def reaches(scenario: Scenario, goal: float) -> bool:
    """Whether so many of the pictures are in time."""
    return run(scenario).goodput >= goal


def _fewest(scenario: Scenario, name: str, too_few: int, enough: Callable[[Scenario], bool]) -> Scenario:
    """By bisection, with the other number as it is."""
    low, high = too_few, getattr(scenario, name)
    while high - low > 1:
        middle = (low + high) // 2
        if enough(replace(scenario, **{name: middle})):
            high = middle
        else:
            low = middle
    return replace(scenario, **{name: high})
