"""The text encoder stage: requests from the wire to texts, and back."""

from __future__ import annotations

from services.bundles.clip import load_text_tower
from services.bundles.clip_source import ClipSettings
from services.serving import describe
from services.serving.worker import Worker
from services.text_encoder.encoder import EncodedText, TextEncoder
from services.wire.errors import InvalidInput
from services.wire.tensors import to_message
from unclip.internal.v1 import stage_service_pb2, text_encoder_service_pb2

MAX_TEXTS = 256
Request = text_encoder_service_pb2.EncodeTextRequest
Response = text_encoder_service_pb2.EncodeTextResponse


class TextEncoderStage:
    """One replica's text encoder."""

    def __init__(self, settings: ClipSettings) -> None:
        clip = load_text_tower(settings.clip, settings.threads)
        self.bundle = clip.bundle
        self._encoder = TextEncoder(clip)
        self._worker = Worker()

    async def encode(self, request: Request) -> Response:
        """Embed texts."""
        if not 1 <= len(request.texts) <= MAX_TEXTS:
            raise InvalidInput(("texts", f"must be from 1 to {MAX_TEXTS} texts"))
        encoded = await self._worker.run(self._encoder.encode, list(request.texts))
        return Response(
            texts=[_to_message(text) for text in encoded],
            logit_scale=self._encoder.logit_scale,
            model_version=self.bundle.manifest.version,
        )

    def check(self) -> None:
        """Raises StageUnavailable if the replica should be replaced."""
        self._worker.check()

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return describe.describe(self.bundle.manifest)


def _to_message(text: EncodedText) -> text_encoder_service_pb2.TextConditioning:
    return text_encoder_service_pb2.TextConditioning(
        embedding=to_message(text.embedding),
        states=to_message(text.states),
        mask=to_message(text.mask),
        last_word_read=text.last_word_read,
    )
