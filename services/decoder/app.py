"""The decoder as a Ray Serve application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve import Application

from services.decoder.settings import Settings
from services.serving import servicing
from services.serving.deployment import SamplingDeployment, bound
from unclip.internal.v1 import decoder_service_pb2

if TYPE_CHECKING:
    from services.decoder.stage import DecoderStage


@serve.deployment(name="Decoder")
class DecoderDeployment(SamplingDeployment["DecoderStage"]):
    """Answers ``DecoderService`` and ``StageService``."""

    name = "decoder"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine_settings = settings.engine
        self._start()

    def load(self) -> DecoderStage:
        """Make the stage, with its networks."""
        from services.decoder.stage import DecoderStage

        return DecoderStage(self._settings, self.replica(), self.watcher())

    @servicing.streaming(decoder_service_pb2.SampleDecoderResponse)
    def SampleDecoder(
        self, request: decoder_service_pb2.SampleDecoderRequest
    ) -> AsyncGenerator[decoder_service_pb2.SampleDecoderResponse, None]:
        """Make one picture."""
        return self.stage.sample(request)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return bound(DecoderDeployment, Settings, args)
