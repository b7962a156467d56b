"""The image encoder as a Ray Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve import Application

from services.bundles.clip_source import ClipSettings
from services.serving import servicing
from services.serving.deployment import StageDeployment, bound
from unclip.internal.v1 import image_encoder_service_pb2

if TYPE_CHECKING:
    from services.image_encoder.stage import ImageEncoderStage


@serve.deployment(name="ImageEncoder")
class ImageEncoderDeployment(StageDeployment["ImageEncoderStage"]):
    """Answers ``ImageEncoderService`` and ``StageService``."""

    name = "image_encoder"

    def __init__(self, settings: ClipSettings) -> None:
        self._settings = settings
        self._start()

    def load(self) -> ImageEncoderStage:
        """Make the stage, with its network."""
        from services.image_encoder.stage import ImageEncoderStage

        return ImageEncoderStage(self._settings)

    @servicing.unary(image_encoder_service_pb2.EncodeImageResponse)
    async def EncodeImage(
        self, request: image_encoder_service_pb2.EncodeImageRequest
    ) -> image_encoder_service_pb2.EncodeImageResponse:
        """Embed a picture."""
        return await self.stage.encode(request)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return bound(ImageEncoderDeployment, ClipSettings, args)
