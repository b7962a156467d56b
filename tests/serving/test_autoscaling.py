"""Replicas follow rows: a request of ten rows weighs ten, and an idle engine asks for none."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.engine import EngineLimits, Load
from services.serving.autoscaling import PLACES, ROWS, EngineLoadPolicy, recorded


@dataclass
class Context:
    target_num_replicas: int = 1
    total_num_requests: float = 0.0
    aggregated_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


def loaded(*rows: float, requests: float = 0.0) -> Context:
    replicas = {str(i): r for i, r in enumerate(rows)}
    return Context(len(rows), requests, {ROWS: replicas, PLACES: dict.fromkeys(replicas, 8.0)})


def test_rows_running_and_waiting_are_recorded() -> None:
    assert recorded(Load(running=3, waiting=4, steps=9), EngineLimits(8, 16)) == {ROWS: 7.0, PLACES: 8.0}


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        (loaded(0.0), 0),
        (loaded(0.0, requests=1), 1),
        (loaded(4.0, requests=1), 1),
        (loaded(5.0, requests=1), 2),  # one request of five rows
        (loaded(24.0), 6),
        (loaded(4.0, 4.0, 0.0), 2),
        (Context(target_num_replicas=2), 2),
        (Context(target_num_replicas=0, total_num_requests=3), 1),
    ],
)
def test_the_policy_keeps_rows_near_its_share_of_places(context: Context, wanted: int) -> None:
    assert EngineLoadPolicy(target=0.5)(context) == (wanted, {})


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="target"):
        EngineLoadPolicy(target=0)
