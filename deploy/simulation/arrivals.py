"""Requests as they arrive: how many, of which flows, for whom."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.stages.budget import Priority

Trace = Literal["steady", "daily", "burst", "flood"]
Flow = Literal["generate", "vary", "inpaint"]
BURST = 8.0  # times the rate
BURST_SHARE = 0.1  # of the time
SWING = 0.6  # of the mean rate, by which a day's rate rises and falls
FLOOD = 10.0  # times all others' rate, by one tenant, in the middle of the time


@dataclass(frozen=True)
class Arrival:
    """A request. at: seconds from the start. steps: of the decoder; 0: the model's own.

    floods: it is of the tenant that asks for too much.
    """

    at: float
    flow: Flow
    pictures: int
    steps: int
    deadline: float
    priority: Priority = "interactive"
    floods: bool = False


def rate_at(trace: Trace, mean: float, share: float) -> float:
    """Requests a second of everybody at a share of the simulated time; over it they average to the mean."""
    if trace == "daily":
        return mean * (1 - SWING * math.cos(2 * math.pi * share))
    if trace == "burst":
        quiet = mean / (1 + BURST_SHARE * (BURST - 1))
        return quiet * BURST if 0.5 <= share < 0.5 + BURST_SHARE else quiet
    return mean


def arrivals(
    trace: Trace, pictures_a_second: float, seconds: float, deadline: float, dice: random.Random
) -> Iterator[Arrival]:
    """At random, in order, until the time is over."""
    requests = pictures_a_second / _pictures_of_a_request()
    most = max(rate_at(trace, requests, share / 100) for share in range(100))
    flood = FLOOD * requests if trace == "flood" else 0.0
    at = 0.0
    while (at := at + dice.expovariate(most + flood)) < seconds:
        if dice.random() < flood / (most + flood):
            if 1 / 3 <= at / seconds < 2 / 3:
                yield Arrival(at, "generate", 1, 0, deadline, floods=True)
        elif dice.random() < rate_at(trace, requests, at / seconds) / most:
            yield _request(at, deadline, dice)


# What callers ask for: a share of the requests, the flow, pictures, steps of the decoder, whose work it is.
MIX: tuple[tuple[float, Flow, int, int, Priority], ...] = (
    (0.55, "generate", 1, 0, "interactive"),
    (0.10, "generate", 4, 0, "interactive"),
    (0.10, "generate", 1, 8, "interactive"),
    (0.10, "vary", 1, 0, "interactive"),
    (0.10, "inpaint", 1, 0, "interactive"),
    (0.05, "generate", 1, 0, "batch"),
)


def _pictures_of_a_request() -> float:
    return sum(share * pictures for share, _, pictures, _, _ in MIX)


def _request(at: float, deadline: float, dice: random.Random) -> Arrival:
    _, flow, pictures, steps, priority = dice.choices(MIX, [share for share, *_ in MIX])[0]
    return Arrival(at, flow, pictures, steps, deadline * (10 if priority == "batch" else 1), priority)
