"""Client of TextEncoderService, with a cache of what was encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cachetools import TTLCache

from gateway import metrics
from gateway.stages.budget import Budget
from gateway.stages.channel import StageChannel
from unclip.internal.v1 import text_encoder_service_pb2, text_encoder_service_pb2_grpc

Embedding = npt.NDArray[np.float32]
Conditioning = text_encoder_service_pb2.TextConditioning


@dataclass(frozen=True)
class EncodedText:
    """A text, and the one that guidance is measured against, as the sampling stages take them."""

    prompt: Conditioning
    unconditional: Conditioning


@dataclass(frozen=True)
class EmbeddedTexts:
    """Unit embeddings (n, D), CLIP's logit scale, and for each text the last word read, if it was cut."""

    embeddings: Embedding
    logit_scale: float
    last_words_read: tuple[str, ...]


class TextEncoder:
    """Texts to conditioning and embeddings. What another version of the encoder made is never used."""

    def __init__(self, channel: StageChannel, cache_size: int, cache_seconds: float) -> None:
        self.channel = channel
        self._cache: TTLCache[tuple[str, str], Conditioning] = TTLCache(cache_size, cache_seconds)
        self._version = ""

    def serves(self, version: str) -> None:
        """Note which version of the model the encoder was last seen to serve."""
        self._version = version

    async def encode(self, prompt: str, unconditional: str, budget: Budget) -> EncodedText:
        """The conditioning of both texts, remembered for a while."""
        texts = (prompt, unconditional)
        version = self._version
        found = {text: known for text in texts if (known := self._cache.get((version, text))) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        metrics.text_cache.labels("miss" if missing else "hit").inc()
        if missing:
            response = await self._encode(missing, budget)
            if found and response.model_version != version:  # both texts are of one version
                found = {}
                missing = list(dict.fromkeys(texts))
                response = await self._encode(missing, budget)
            found |= dict(zip(missing, response.texts, strict=True))
            self._version = response.model_version
            if self._cache.maxsize:
                self._cache.update({(response.model_version, text): found[text] for text in missing})
        return EncodedText(found[prompt], found[unconditional])

    async def embed(self, texts: Sequence[str], budget: Budget) -> EmbeddedTexts:
        """What CLIP compares with pictures. Raises StageMismatch for embeddings of unlike widths."""
        response = await self._encode(texts, budget)
        width = response.texts[0].embedding.shape[0] if response.texts[0].embedding.shape else 0
        rows = [self.channel.array(text.embedding, width) for text in response.texts]
        words = tuple(text.last_word_read for text in response.texts)
        return EmbeddedTexts(np.stack([normalised(row) for row in rows]), response.logit_scale, words)

    async def _encode(
        self, texts: Sequence[str], budget: Budget
    ) -> text_encoder_service_pb2.EncodeTextResponse:
        request = text_encoder_service_pb2.EncodeTextRequest(texts=texts, request_id=budget.request_id)
        response = await self.channel.call(
            lambda: self.channel.stub(text_encoder_service_pb2_grpc.TextEncoderServiceStub).EncodeText,
            lambda: request,
            budget,
        )
        if len(response.texts) != len(texts):
            raise self.channel.mismatch(f"{len(response.texts)} texts for {len(texts)}")
        return response


def normalised(embedding: Embedding) -> Embedding:
    """At unit length."""
    scaled: Embedding = embedding / np.linalg.norm(embedding)
    return scaled
