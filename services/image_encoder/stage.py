"""The image encoder stage: requests from the wire to pictures, and back."""

from __future__ import annotations

from services.bundles.clip import load_image_tower
from services.bundles.clip_source import ClipSettings
from services.image_encoder.encoder import ImageEncoder
from services.serving import describe
from services.serving.worker import Worker
from services.wire.tensors import from_message, to_message
from unclip.internal.v1 import image_encoder_service_pb2, stage_service_pb2

Request = image_encoder_service_pb2.EncodeImageRequest
Response = image_encoder_service_pb2.EncodeImageResponse


class ImageEncoderStage:
    """One replica's image encoder."""

    def __init__(self, settings: ClipSettings) -> None:
        clip = load_image_tower(settings.clip, settings.threads)
        self.bundle = clip.bundle
        self._encoder = ImageEncoder(clip)
        self._worker = Worker()

    async def encode(self, request: Request) -> Response:
        """Embed a picture."""
        picture = from_message(request.picture, "picture", (None, None, 3))
        embedding = await self._worker.run(self._encoder.encode, picture)
        version = self.bundle.manifest.version
        return Response(embedding=to_message(embedding), model_version=version)

    def check(self) -> None:
        """Raises StageUnavailable if the replica should be replaced."""
        self._worker.check()

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return describe.describe(self.bundle.manifest)
