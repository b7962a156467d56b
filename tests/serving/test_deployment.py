"""What Ray Serve asks of a replica: its health, and its load."""

from __future__ import annotations

from typing import Any

import pytest

from services.engine import CallSizes, EngineLimits, EngineStopped, StepEngine, StepFailed
from services.engine.settings import EngineSettings
from services.serving.deployment import SamplingDeployment
from tests.engine.work import Device, Row, collect, work


class Stage:
    """A stage that is an engine only."""

    def __init__(self) -> None:
        self.engine: StepEngine[Row] = StepEngine(Device(), EngineLimits(8, 8), CallSizes(4))

    def check(self) -> None:
        self.engine.check()


class Deployment(SamplingDeployment[Any]):
    engine_settings = EngineSettings()

    def __init__(self) -> None:
        self.stage = Stage()


async def test_a_replica_whose_steps_keep_failing_is_unhealthy() -> None:
    deployment = Deployment()
    await deployment.check_health()
    for _ in range(3):
        with pytest.raises(StepFailed):
            await collect(deployment.stage.engine.run(work(poison=True)))
    with pytest.raises(EngineStopped):
        await deployment.check_health()
    assert await deployment.record_autoscaling_stats() == {"load": 0.0}
