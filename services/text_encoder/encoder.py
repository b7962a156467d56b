"""CLIP's text tower: texts to embeddings and token states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from services.bundles.clip import Clip

MAX_WORDS = 50_000


@dataclass(frozen=True)
class EncodedText:
    """One text: embedding (D,), token states (L, W), both float32, and mask (L,), true at real tokens."""

    embedding: npt.NDArray[np.float32]
    states: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


class TextEncoder:
    """Texts longer than the context are cut at its end, as CLIP does."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        scale = clip.model.logit_scale
        assert isinstance(scale, torch.Tensor)
        self.logit_scale = float(scale.float().exp())

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode texts one by one: a text's result must not depend on its company."""
        # open_clip's tokenizer remembers every word it has ever seen.
        remembered = getattr(self._clip.tokenizer, "cache", {})
        for word in list(remembered)[MAX_WORDS:]:
            del remembered[word]
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> EncodedText:
        tokens = self._clip.tokenizer([text]).to(self._clip.device)
        intermediates = self._clip.model.forward_intermediates
        assert callable(intermediates)
        out = intermediates(text=tokens, text_indices=1, normalize=False, normalize_intermediates=True)
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(-1, keepdim=True)
        return EncodedText(
            embedding=out["text_features"][0].float().cpu().numpy(),
            states=out["text_intermediates"][-1][0].float().cpu().numpy(),
            mask=mask[0].cpu().numpy(),
        )
