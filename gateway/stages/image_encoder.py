"""Client of ImageEncoderService, with a cache of what was encoded."""

from __future__ import annotations

import hashlib

from cachetools import TTLCache

from gateway import metrics
from gateway.stages.budget import Budget
from gateway.stages.channel import StageChannel
from gateway.stages.text_encoder import Embedding
from gateway.threads import in_thread
from services.editing.pictures import Pixels
from services.wire.tensors import to_message
from unclip.internal.v1 import image_encoder_service_pb2, image_encoder_service_pb2_grpc


class ImageEncoder:
    """Pictures to embeddings. What another version of the encoder made is never used."""

    def __init__(self, channel: StageChannel, cache_size: int, cache_seconds: float) -> None:
        self.channel = channel
        self._cache: TTLCache[tuple[str, bytes], Embedding] = TTLCache(cache_size, cache_seconds)
        self._version = ""

    def serves(self, version: str) -> None:
        """Note which version of the model the encoder was last seen to serve."""
        self._version = version

    async def encode(self, pixels: Pixels, budget: Budget, width: int | None = None) -> Embedding:
        """(H, W, 3) -> (D,), not normalised, remembered for a while.

        Raises StageMismatch if D is not the width that is given.
        """
        digest = await in_thread(_digest, pixels)
        known = self._cache.get((self._version, digest))
        metrics.image_cache.labels("miss" if known is None else "hit").inc()
        if known is not None and width in (None, len(known)):
            return known
        picture = to_message(pixels)
        request = image_encoder_service_pb2.EncodeImageRequest(picture=picture, request_id=budget.request_id)
        response = await self.channel.call(
            lambda: self.channel.stub(image_encoder_service_pb2_grpc.ImageEncoderServiceStub).EncodeImage,
            lambda: request,
            budget,
        )
        embedding = self.channel.array(response.embedding, width)
        self._version = response.model_version
        if self._cache.maxsize:
            self._cache[response.model_version, digest] = embedding
        return embedding


def _digest(pixels: Pixels) -> bytes:
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.digest()
