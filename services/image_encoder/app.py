"""The image encoder as a Ray Serve application."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from services.bundles.clip_source import ClipSource
from services.serving import servicing
from services.wire.tensors import from_message, to_message
from unclip.internal.v1 import image_encoder_service_pb2, stage_service_pb2


class Settings(BaseModel):
    """The application's arguments in its Serve config. threads: of torch, for each replica."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: ClipSource
    threads: int = Field(default=1, ge=1)


@serve.deployment(name="ImageEncoder")
class ImageEncoderDeployment:
    """Answers ``ImageEncoderService`` and ``StageService``."""

    def __init__(self, settings: Settings) -> None:
        # Imported in the replica alone: building the application need not wait for torch.
        from services.bundles.clip import load_clip
        from services.image_encoder.encoder import ImageEncoder
        from services.serving.metrics import show_model
        from services.telemetry.tracing import export_spans

        export_spans("unclip-image-encoder")
        started = time.monotonic()
        clip = load_clip(settings.clip, settings.threads)
        show_model(clip.bundle.manifest, time.monotonic() - started)
        self._bundle, self._encoder = clip.bundle, ImageEncoder(clip)

    @servicing.unary(image_encoder_service_pb2.EncodeImageResponse)
    async def EncodeImage(
        self, request: image_encoder_service_pb2.EncodeImageRequest
    ) -> image_encoder_service_pb2.EncodeImageResponse:
        """Embed a picture."""
        picture = from_message(request.picture, "picture", (None, None, 3))
        embedding = await servicing.in_thread(self._encoder.encode, picture)
        return image_encoder_service_pb2.EncodeImageResponse(embedding=to_message(embedding))

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(
        self, request: stage_service_pb2.DescribeRequest
    ) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return servicing.describe(self._bundle)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return ImageEncoderDeployment.bind(Settings.model_validate(args))  # type: ignore[attr-defined]
