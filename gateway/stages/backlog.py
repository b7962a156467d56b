"""How busy a sampling stage is, by what its replicas tell with every message."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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


class Backlog:
    """The last word of each replica, the latest last. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, sampling_pb2.EngineLoad]] = {}
        self._rows = 0
        self._max_rows = 0

    def told(self, load: sampling_pb2.EngineLoad) -> None:
        """Note what a replica says; a message without a load says nothing."""
        if not load.replica:
            return
        self._forget(load.replica)
        self._told[load.replica] = (self._clock(), load)
        self._rows += load.rows_running + load.rows_waiting
        self._max_rows += load.max_rows

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
        oldest, _ = next(iter(recent.values()))
        return self._clock() - oldest < seconds

    @property
    def seconds(self) -> float:
        """Of work that the replicas have admitted, together.

        It goes down with the time since they told it.
        """
        now = self._clock()
        return sum(max(0.0, load.backlog_seconds - (now - then)) for then, load in self._recent().values())

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
        for _, load in reversed(self._recent().values()):
            told = sorted((c.evaluations, c.seconds) for c in load.costs if c.size == size)
            if told:
                return [count for count, _ in told], [seconds for _, seconds in told]
        return [1], [0.0]

    def _recent(self) -> dict[str, tuple[float, sampling_pb2.EngineLoad]]:
        """What was told lately; what is older is forgotten. A stage may have a thousand replicas."""
        since = self._clock() - FORGET_SECONDS
        while self._told:
            replica, (then, _) = next(iter(self._told.items()))
            if then >= since:
                break
            self._forget(replica)
        return self._told

    def _forget(self, replica: str) -> None:
        if replica in self._told:
            _, load = self._told.pop(replica)
            self._rows -= load.rows_running + load.rows_waiting
            self._max_rows -= load.max_rows
