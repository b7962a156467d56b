"""How many replicas an engine's load asks for: a Ray Serve autoscaling policy on work, not on requests.

One request may be ten rows, a row may be a thousand steps, and what the gateways refuse never arrives. But an
engine whose calls are always full is too small, whoever is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from services.engine import EngineLimits, Load

LOAD = "load"  # what replicas record


class ScalingContext(Protocol):
    """What is used of Ray Serve's ``AutoscalingContext``."""

    @property
    def target_num_replicas(self) -> int:
        """Replicas decided on before."""

    @property
    def total_num_requests(self) -> float:
        """Requests running and queued."""

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]]:
        """What replicas recorded, by name and replica."""


class LoadRecorder:
    """A replica's load, from one look to the next; 1 is as much as it can do.

    It is the time that its work takes in full calls, over the time that went by; or, if that is more, rows
    over places.
    """

    def __init__(self, limits: EngineLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = limits.max_running
        self._clock = clock
        self._last: float | None = None
        self._full_seconds = 0.0

    def record(self, load: Load) -> dict[str, float]:
        """What a replica's ``record_autoscaling_stats`` answers."""
        now = self._clock()
        share = 0.0
        if self._last is not None:
            share = (load.full_seconds - self._full_seconds) / max(now - self._last, 1e-3)
        self._last = now
        self._full_seconds = load.full_seconds
        return {LOAD: max(min(share, 1.0), (load.running + load.waiting) / self._places)}


class EngineLoadPolicy:
    """Keeps replicas' load near ``target``.

    Bounds, delays and factors of the deployment's autoscaling_config apply on top.
    """

    def __init__(self, target: float = 0.7) -> None:
        if not 0 < target <= 1:
            raise ValueError("target: must be above 0 and at most 1")
        self._target = target

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas wanted, and no state of its own."""
        loads = list(context.aggregated_metrics.get(LOAD, {}).values())
        waited_for = int(context.total_num_requests > 0)
        if not loads:
            # No replica has said anything yet: keep to what was decided, and to one if anybody waits.
            return max(context.target_num_replicas, waited_for), {}
        return max(math.ceil(sum(loads) / self._target), waited_for), {}
