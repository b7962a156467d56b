"""How busy a sampling stage is, by what its replicas tell with every message."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from unclip.internal.v1 import sampling_pb2

SamplingStage = Literal["prior", "decoder"]
FORGET_SECONDS = 15.0  # after which a replica that tells nothing more does not count


@dataclass(frozen=True)
class Steps:
    """Steps of one row in one network, with so many evaluations each, in the mean.

    size: of the pictures that the network makes, in px; 0 for the prior, which makes none.
    """

    size: int
    steps: int
    evaluations: float = 1


class Told(NamedTuple):
    """What a replica said, and when; rows and max_rows: as they were counted then."""

    at: float
    load: sampling_pb2.EngineLoad
    rows: int
    max_rows: int


class Backlog:
    """The last word of each replica, the latest last. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, Told] = {}
        self._rows = 0
        self._max_rows = 0

    def told(self, load: sampling_pb2.EngineLoad) -> None:
        """Note what a replica says; a message without a load says nothing."""
        if not load.replica:
            return
        self._forget(load.replica)
        told = Told(self._clock(), load, load.rows_running + load.rows_waiting, load.max_rows)
        self._told[load.replica] = told
        self._rows += told.rows
        self._max_rows += told.max_rows

    @property
    def replicas(self) -> int:
        """How many have been heard of lately; at least one."""
        return max(1, len(self._recent()))

    @property
    def known(self) -> bool:
        """Whether anything is known of the stage's load now."""
        return bool(self._recent())

    def heard(self, seconds: float) -> bool:
        """Whether each replica that is known told something in the last so many seconds."""
        recent = self._recent()
        if not recent:
            return False
        oldest = next(iter(recent.values()))
        return self._clock() - oldest.at < seconds

    @property
    def seconds(self) -> float:
        """Of work that the replicas have admitted, together.

        It goes down with the time since they told it.
        """
        now = self._clock()
        return sum(max(0.0, t.load.backlog_seconds - (now - t.at)) for t in self._recent().values())

    @property
    def rows(self) -> int:
        """Rows that the replicas have admitted."""
        self._recent()
        return self._rows

    @property
    def max_rows(self) -> int:
        """Rows that they take."""
        self._recent()
        return self._max_rows

    def work(self, steps: Steps) -> float:
        """Seconds that one such row adds to the work, where it shares calls with others.

        0 while costs are unknown.
        """
        sizes, costs = self._costs(steps.size)
        return steps.steps * costs[-1] * min(1.0, steps.evaluations / sizes[-1])

    def alone(self, steps: Steps) -> float:
        """Seconds that one such row takes by itself."""
        sizes, costs = self._costs(steps.size)
        seconds = float(np.interp(steps.evaluations, sizes, costs))
        return steps.steps * seconds * max(1.0, steps.evaluations / sizes[-1])

    def rows_of_a_call(self, steps: Steps) -> int:
        """How many such rows share a full call; 1 while costs are unknown."""
        sizes, _ = self._costs(steps.size)
        return max(1, int(sizes[-1] / steps.evaluations))

    def _costs(self, size: int) -> tuple[list[int], list[float]]:
        """Evaluations in calls of that size's network, and seconds of these, by the last word on them.

        They are in ascending order; the last call is a full one.
        """
        for told in reversed(self._recent().values()):
            costs = sorted((c.evaluations, c.seconds) for c in told.load.costs if c.size == size)
            if costs:
                return [count for count, _ in costs], [seconds for _, seconds in costs]
        return [1], [0.0]

    def _recent(self) -> dict[str, Told]:
        """What was told lately; what is older is forgotten. A stage may have a thousand replicas."""
        since = self._clock() - FORGET_SECONDS
        while self._told:
            replica, told = next(iter(self._told.items()))
            if told.at >= since:
                break
            self._forget(replica)
        return self._told

    def _forget(self, replica: str) -> None:
        if (told := self._told.pop(replica, None)) is not None:
            self._rows -= told.rows
            self._max_rows -= told.max_rows
