"""The prior as a Ray Serve application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve import Application

from services.prior.settings import Settings
from services.serving import servicing
from services.serving.deployment import SamplingDeployment, bound
from unclip.internal.v1 import prior_service_pb2

if TYPE_CHECKING:
    from services.prior.stage import PriorStage


@serve.deployment(name="Prior")
class PriorDeployment(SamplingDeployment["PriorStage"]):
    """Answers ``PriorService`` and ``StageService``."""

    name = "prior"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine_settings = settings.engine
        self._start()

    def load(self) -> PriorStage:
        """Make the stage, with its networks."""
        from services.prior.stage import PriorStage

        return PriorStage(self._settings, self.replica(), self.watcher())

    @servicing.streaming(prior_service_pb2.SamplePriorResponse)
    def SamplePrior(
        self, request: prior_service_pb2.SamplePriorRequest
    ) -> AsyncGenerator[prior_service_pb2.SamplePriorResponse, None]:
        """Draw candidates and keep the best."""
        return self.stage.sample(request)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return bound(PriorDeployment, Settings, args)
