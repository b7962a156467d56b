"""Replicas follow work: an engine that is always full asks for more, and an idle one for none."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.engine import EngineLimits, Load
from services.serving.autoscaling import LOAD, EngineLoadPolicy, LoadRecorder


@dataclass
class Context:
    target_num_replicas: int = 1
    total_num_requests: float = 0.0
    aggregated_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


def loaded(*loads: float, requests: float = 0.0) -> Context:
    return Context(len(loads), requests, {LOAD: {str(i): load for i, load in enumerate(loads)}})


def test_the_load_is_how_full_the_time_was_or_how_many_rows_there_are() -> None:
    now = 0.0
    recorder = LoadRecorder(EngineLimits(8, 16), lambda: now)
    assert recorder.record(Load(running=2, waiting=0, steps=9, full_seconds=9.0)) == {LOAD: 0.25}
    now = 10.0
    assert recorder.record(Load(running=0, waiting=0, steps=9, full_seconds=13.0)) == {LOAD: 0.4}
    now = 20.0
    assert recorder.record(Load(running=1, waiting=0, steps=9, full_seconds=23.0)) == {LOAD: 1.0}
    now = 30.0
    assert recorder.record(Load(running=8, waiting=4, steps=9, full_seconds=23.0)) == {LOAD: 1.5}


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        (loaded(0.0), 0),
        (loaded(0.0, requests=1), 1),
        (loaded(0.5, requests=1), 1),
        (loaded(1.0, requests=1), 2),  # always full: others are refused at the door
        (loaded(3.0), 6),
        (loaded(0.5, 0.5, 0.0), 2),
        (Context(target_num_replicas=2), 2),
        (Context(target_num_replicas=0, total_num_requests=3), 1),
    ],
)
def test_the_policy_keeps_the_load_near_its_target(context: Context, wanted: int) -> None:
    assert EngineLoadPolicy(target=0.5)(context) == (wanted, {})


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="target"):
        EngineLoadPolicy(target=0)
