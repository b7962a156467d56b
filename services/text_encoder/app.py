"""The text encoder as a Ray Serve application."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from services.bundles.clip_source import ClipSource
from services.serving import servicing
from services.wire.errors import InvalidInput
from services.wire.tensors import to_message
from unclip.internal.v1 import stage_service_pb2, text_encoder_service_pb2

MAX_TEXTS = 256


class Settings(BaseModel):
    """The application's arguments in its Serve config. threads: of torch, for each replica."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: ClipSource
    threads: int = Field(default=1, ge=1)


@serve.deployment(name="TextEncoder")
class TextEncoderDeployment:
    """Answers ``TextEncoderService`` and ``StageService``."""

    def __init__(self, settings: Settings) -> None:
        # Imported in the replica alone: building the application need not wait for torch.
        from services.bundles.clip import load_clip
        from services.serving.metrics import show_model
        from services.telemetry.tracing import export_spans
        from services.text_encoder.encoder import TextEncoder

        export_spans("unclip-text-encoder")
        started = time.monotonic()
        clip = load_clip(settings.clip, settings.threads)
        show_model(clip.bundle.manifest, time.monotonic() - started)
        self._bundle, self._encoder = clip.bundle, TextEncoder(clip)

    @servicing.unary(text_encoder_service_pb2.EncodeTextResponse)
    async def EncodeText(
        self, request: text_encoder_service_pb2.EncodeTextRequest
    ) -> text_encoder_service_pb2.EncodeTextResponse:
        """Embed texts."""
        if not 1 <= len(request.texts) <= MAX_TEXTS:
            raise InvalidInput("texts", f"must be from 1 to {MAX_TEXTS} texts")
        encoded = await servicing.in_thread(self._encoder.encode, list(request.texts))
        return text_encoder_service_pb2.EncodeTextResponse(
            texts=[
                text_encoder_service_pb2.TextConditioning(
                    embedding=to_message(e.embedding), states=to_message(e.states), mask=to_message(e.mask)
                )
                for e in encoded
            ],
            logit_scale=self._encoder.logit_scale,
        )

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(
        self, request: stage_service_pb2.DescribeRequest
    ) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return servicing.describe(self._bundle)


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return TextEncoderDeployment.bind(Settings.model_validate(args))  # type: ignore[attr-defined]
