"""The text encoder as a Ray Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve import Application

from services.bundles.clip_source import ClipSettings
from services.serving import servicing
from services.serving.deployment import StageDeployment, bound
from unclip.internal.v1 import text_encoder_service_pb2

if TYPE_CHECKING:
    from services.text_encoder.stage import TextEncoderStage


@serve.deployment(name="TextEncoder")
class TextEncoderDeployment(StageDeployment["TextEncoderStage"]):
    """Answers ``TextEncoderService`` and ``StageService``."""

    name = "text_encoder"

    def __init__(self, settings: ClipSettings) -> None:
        self._settings = settings
        self._start()

    def load(self) -> TextEncoderStage:
        """Make the stage, with its network."""
        from services.text_encoder.stage import TextEncoderStage

        return TextEncoderStage(self._settings)

    @servicing.unary(text_encoder_service_pb2.EncodeTextResponse)
    async def EncodeText(
        self, request: text_encoder_service_pb2.EncodeTextRequest
    ) -> text_encoder_service_pb2.EncodeTextResponse:
        """Embed texts."""
        return await self.stage.encode(request)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return bound(TextEncoderDeployment, ClipSettings, args)
