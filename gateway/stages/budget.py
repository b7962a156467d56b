"""What is left of a request's time, and what else goes with every call on a stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from unclip.internal.v1 import sampling_pb2

Priority = Literal["interactive", "batch"]


@dataclass
class Budget:
    """A request's seconds from now on, its id, and whose work goes first.

    is_deadline: the caller set it, so stages run the earliest first; the gateway's own limit makes nobody
    urgent. clock: of these seconds.
    """

    seconds: float
    request_id: str
    priority: Priority = "interactive"
    is_deadline: bool = True
    clock: Callable[[], float] = time.monotonic
    _lags_until: float = field(init=False, default=-math.inf)
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds_left(self) -> float:
        """Never negative; at 0 a call fails with DEADLINE_EXCEEDED before it is sent."""
        return max(0.0, self._started + self.seconds - self.clock())

    def lags(self, seconds: float) -> None:
        """From now on it is due so many seconds later than others."""
        self._lags_until = self.clock() + seconds

    @property
    def lag_left(self) -> float:
        """What is left of these seconds."""
        return max(0.0, self._lags_until - self.clock())

    def task(self, seed: int, steps: int, guidance: float) -> sampling_pb2.SamplingTask:
        """What a sampling stage is told of one picture, with the time that is left now."""
        task = sampling_pb2.SamplingTask(
            request_id=self.request_id,
            seed=seed,
            steps=steps,
            guidance=guidance,
            lag_seconds=self.lag_left,
        )
        batch = self.priority == "batch"
        task.priority = sampling_pb2.PRIORITY_BATCH if batch else sampling_pb2.PRIORITY_INTERACTIVE
        if self.is_deadline:
            task.time_left.FromNanoseconds(int(self.seconds_left * 1e9))
        return task
