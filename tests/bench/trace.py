"""Traces of arrivals: which request comes when. A file has one line of JSON for each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from tests.bench.overload import PROMPTS

Flow = Literal["generate", "vary"]


@dataclass(frozen=True)
class Kind:
    """What pictures of one call have in common. vary: of a picture, without words."""

    size: int
    steps: int
    flow: Flow = "generate"


@dataclass(frozen=True)
class Arrival:
    """at: seconds since the first could have come."""

    at: float
    prompt: str
    kind: Kind


KINDS = (
    Kind(256, 4),
    Kind(256, 8),
    Kind(256, 12),
    Kind(384, 6),
    Kind(256, 8, "vary"),
)


def endless(rate: float, seed: int) -> Iterator[Arrival]:
    """Arrivals at random (a Poisson process), of all kinds, ``rate`` a second in the mean."""
    dice = random.Random(seed)
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield Arrival(at, dice.choice(PROMPTS), dice.choice(KINDS))


def poisson(rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Those of the first ``seconds``."""
    return list(takewhile(lambda arrival: arrival.at < seconds, endless(rate, seed)))


def at_rate(trace: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The same arrivals, faster or slower, so that ``rate`` a second come in the mean."""
    factor = len(trace) / trace[-1].at / rate
    return [Arrival(a.at * factor, a.prompt, a.kind) for a in trace]


def write(path: Path, trace: Iterable[Arrival]) -> None:
    """One line for each arrival."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(_line(arrival)) + "\n" for arrival in trace))


def _line(arrival: Arrival) -> dict[str, Any]:
    return {"at": round(arrival.at, 3), "prompt": arrival.prompt, **asdict(arrival.kind)}


def read(path: Path) -> list[Arrival]:
    """What ``write`` wrote, or another wrote like it. Raises ValueError if that tells no rate."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    found = [Arrival(line.pop("at"), line.pop("prompt"), Kind(**line)) for line in lines]
    if not found or found[-1].at <= 0:
        raise ValueError("has no arrival after its beginning")
    return found
