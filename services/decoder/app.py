"""The decoder and its upsampler as a Ray Serve application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.serve import Application

from services.decoder.settings import Settings
from services.serving import servicing
from unclip.internal.v1 import decoder_service_pb2, stage_service_pb2


@serve.deployment(name="Decoder")
class DecoderDeployment:
    """Answers ``DecoderService`` and ``StageService``."""

    def __init__(self, settings: Settings) -> None:
        # Imported in the replica alone: building the application need not wait for torch.
        from services.decoder.stage import DecoderStage
        from services.serving.metrics import show_model
        from services.telemetry.tracing import export_spans

        export_spans("unclip-decoder")
        started = time.monotonic()
        self._stage = DecoderStage(settings)
        show_model(self._stage.bundle.manifest, time.monotonic() - started)

    @servicing.streaming(decoder_service_pb2.SampleDecoderResponse)
    def SampleDecoder(
        self, request: decoder_service_pb2.SampleDecoderRequest
    ) -> AsyncGenerator[decoder_service_pb2.SampleDecoderResponse, None]:
        """Make one picture."""
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
    return DecoderDeployment.bind(Settings.model_validate(args))  # type: ignore[attr-defined]
