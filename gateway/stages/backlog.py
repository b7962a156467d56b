"""How busy a sampling stage is, by what its replicas tell with every message."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from unclip.internal.v1 import sampling_pb2

FORGET_SECONDS = 15.0  # after which a replica that tells nothing more does not count


@dataclass(frozen=True)
class Steps:
    """Steps of one row in one network, with so many evaluations each.

    size: of the pictures that the network makes, in px; 0 for the prior, which makes none.
    """

    size: int
    steps: int
    evaluations: int = 1


@dataclass
class Backlog:
    """The last word of each replica. ``clock`` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    _told: dict[str, tuple[float, sampling_pb2.EngineLoad]] = field(default_factory=dict)

    def told(self, load: sampling_pb2.EngineLoad) -> None:
        """Note what a replica says; a message without a load says nothing."""
        if not load.replica:
            return
        self._told[load.replica] = (self.clock(), load)

    @property
    def replicas(self) -> int:
        """How many have been heard of lately; at least one."""
        return max(1, len(self._recent()))

    @property
    def known(self) -> bool:
        """Whether anything is known of the stage's load now."""
        return bool(self._recent())

    @property
    def seconds(self) -> float:
        """Of work that the replicas have admitted, together.

        It goes down with the time since they told it.
        """
        now = self.clock()
        return sum(max(0.0, load.backlog_seconds - (now - then)) for then, load in self._recent())

    @property
    def rows(self) -> int:
        """Rows that the replicas have admitted."""
        return sum(load.rows_running + load.rows_waiting for _, load in self._recent())

    @property
    def max_rows(self) -> int:
        """Rows that they take."""
        return sum(load.max_rows for _, load in self._recent())

    def work(self, steps: Steps) -> float:
        """Seconds that one such row adds to the work, where it shares calls with others.

        0 while costs are unknown.
        """
        seconds, evaluations = self._cost(steps.size)
        return steps.steps * seconds * min(1.0, steps.evaluations / evaluations)

    def alone(self, steps: Steps) -> float:
        """Seconds that one such row takes by itself."""
        seconds, evaluations = self._cost(steps.size)
        return steps.steps * seconds * max(1.0, steps.evaluations / evaluations)

    def _cost(self, size: int) -> tuple[float, int]:
        """Seconds of a call of that size's network, and the evaluations in it, by the last word on it."""
        told = [(then, c) for then, load in self._recent() for c in load.costs if c.size == size]
        if not told:
            return 0.0, 1
        _, cost = max(told, key=lambda item: item[0])
        return cost.seconds, cost.evaluations

    def _recent(self) -> list[tuple[float, sampling_pb2.EngineLoad]]:
        now = self.clock()
        for replica in [r for r, (then, _) in self._told.items() if now - then > FORGET_SECONDS]:
            del self._told[replica]
        return list(self._told.values())
