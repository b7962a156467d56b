"""How many replicas an engine's load asks for: a Ray Serve autoscaling policy on rows, not on requests.

One request may be ten rows, and a row may wait in a replica while Ray sees one ongoing request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from services.engine import EngineLimits, Load

ROWS = "rows"  # what replicas record: rows running and waiting,
PLACES = "places"  # and how many can run


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


def recorded(load: Load, limits: EngineLimits) -> dict[str, float]:
    """A replica's ``record_autoscaling_stats``."""
    return {ROWS: float(load.running + load.waiting), PLACES: float(limits.max_running)}


class EngineLoadPolicy:
    """Keeps rows over places near ``target``.

    Bounds, delays and factors of the deployment's autoscaling_config apply on top.
    """

    def __init__(self, target: float = 0.7) -> None:
        if not 0 < target <= 1:
            raise ValueError("target: must be above 0 and at most 1")
        self._target = target

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas wanted, and no state of its own."""
        rows, places = (list(context.aggregated_metrics.get(name, {}).values()) for name in (ROWS, PLACES))
        if not places:
            # No replica has said anything yet: keep to what was decided, and to one if anybody waits.
            return max(context.target_num_replicas, int(context.total_num_requests > 0)), {}
        wanted = math.ceil(sum(rows) / (self._target * (sum(places) / len(places))))
        return max(wanted, int(context.total_num_requests > 0)), {}
