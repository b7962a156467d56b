"""The prior as a Ray Serve application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.serve import Application

from services.prior.settings import Settings
from services.serving import servicing
from unclip.internal.v1 import prior_service_pb2, stage_service_pb2


@serve.deployment(name="Prior")
class PriorDeployment:
    """Answers ``PriorService`` and ``StageService``."""

    def __init__(self, settings: Settings) -> None:
        # Imported in the replica alone: building the application need not wait for torch.
        from services.prior.stage import PriorStage
        from services.serving.metrics import show_model
        from services.telemetry.tracing import export_spans

        export_spans("unclip-prior")
        started = time.monotonic()
        self._stage = PriorStage(settings)
        show_model(self._stage.bundle.manifest, time.monotonic() - started)

    @servicing.streaming(prior_service_pb2.SamplePriorResponse)
    def SamplePrior(
        self, request: prior_service_pb2.SamplePriorRequest
    ) -> AsyncGenerator[prior_service_pb2.SamplePriorResponse, None]:
        """Draw candidates and keep the best."""
        return self._stage.sample(request)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked for by Ray Serve now and then."""
        return self._stage.autoscaling_stats()

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(
        self, request: stage_service_pb2.DescribeRequest
    ) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return self._stage.describe()


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return PriorDeployment.bind(Settings.model_validate(args))  # type: ignore[attr-defined]
