"""CLIP's text tower: texts to embeddings and token states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from services.bundles.clip import WEIGHTS, Clip
from services.bundles.weights import read_tensors
from services.clip.network import TextTower


@dataclass(frozen=True)
class EncodedText:
    """One text: embedding (D,), token states (L, W), both float32, and mask (L,), true at real tokens.

    last_word_read: where the text is longer than the tower reads; empty where all of it was read.
    """

    embedding: npt.NDArray[np.float32]
    states: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    last_word_read: str = ""


class TextEncoder:
    """Encodes texts. One longer than the context is cut at its end, as CLIP does."""

    def __init__(self, clip: Clip[TextTower]) -> None:
        self._device = clip.device
        self._tower = clip.tower
        self._tokenizer = clip.tokenizer()
        (scale,) = read_tensors(clip.folder / WEIGHTS, "logit_scale")  # in the file's precision
        self.logit_scale = float(scale.float().exp())

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode texts one by one: a text's result must not depend on its company."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> EncodedText:
        tokens = self._tokenizer([text]).to(self._device)
        embeddings, states = self._tower(tokens)
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(-1, keepdim=True)
        return EncodedText(
            embedding=embeddings[0].float().cpu().numpy(),
            states=states[0].float().cpu().numpy(),
            mask=mask[0].cpu().numpy(),
            last_word_read=self._tokenizer.last_word_read(text),
        )
