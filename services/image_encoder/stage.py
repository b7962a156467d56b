"""The image encoder stage: requests from the wire to pictures, and back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from services.bundles.clip import load_clip
from services.bundles.clip_source import ClipSettings
from services.image_encoder.encoder import ImageEncoder
from services.serving import describe
from services.wire.tensors import from_message, to_message
from unclip.internal.v1 import image_encoder_service_pb2, stage_service_pb2

Request = image_encoder_service_pb2.EncodeImageRequest
Response = image_encoder_service_pb2.EncodeImageResponse


class ImageEncoderStage:
    """One replica's image encoder."""

    def __init__(self, settings: ClipSettings) -> None:
        clip = load_clip(settings.clip, settings.threads)
        self.bundle = clip.bundle
        self._encoder = ImageEncoder(clip)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="encode")

    async def encode(self, request: Request) -> Response:
        """Embed a picture."""
        picture = from_message(request.picture, "picture", (None, None, 3))
        loop = asyncio.get_running_loop()
        embedding = await loop.run_in_executor(self._worker, self._encoder.encode, picture)
        return Response(embedding=to_message(embedding))

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return describe.describe(self.bundle.manifest)
