"""The prior as a Ray Serve application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.serve import Application

from services.prior.settings import Settings
from services.wire import servicing
from unclip.internal.v1 import prior_service_pb2, stage_service_pb2


@serve.deployment(name="Prior")
class PriorDeployment:
    """Answers ``PriorService`` and ``StageService``."""

    def __init__(self, settings: Settings) -> None:
        # Imported in the replica alone: building the application need not wait for torch.
        from services.prior.stage import PriorStage

        self._stage = PriorStage(settings)

    @servicing.streaming(prior_service_pb2.SamplePriorResponse)
    def SamplePrior(self, request: prior_service_pb2.SamplePriorRequest) -> AsyncGenerator[prior_service_pb2.SamplePriorResponse, None]:
        """Draw candidates and keep the best."""
        return self._stage.sample(request)

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(self, request: stage_service_pb2.DescribeRequest) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return self._stage.describe()


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return PriorDeployment.bind(Settings.model_validate(args))  # type: ignore[attr-defined]
