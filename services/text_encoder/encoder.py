"""CLIP's text tower: texts to embeddings and token states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.tokenizer import SimpleTokenizer

from services.bundles.clip import Clip

MAX_WORDS = 50_000
END_OF_WORD = "</w>"


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
    """Encodes texts.

    One longer than the context is cut at its end, as CLIP does. Not for several threads at a time.
    """

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.logit_scale = clip.logit_scale

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode texts one by one: a text's result must not depend on its company."""
        # open_clip's tokenizer remembers every word it has ever seen.
        remembered = getattr(self._clip.tokenizer, "cache", {})
        for word in list(remembered)[MAX_WORDS:]:
            del remembered[word]
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> EncodedText:
        plain = plain_text(text, self._clip.tokenizer)
        tokens = self._clip.tokenizer([plain]).to(self._clip.device)
        intermediates = self._clip.model.forward_intermediates
        assert callable(intermediates)
        out = intermediates(text=tokens, text_indices=1, normalize=False, normalize_intermediates=True)
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(-1, keepdim=True)
        return EncodedText(
            embedding=out["text_features"][0].float().cpu().numpy(),
            states=out["text_intermediates"][-1][0].float().cpu().numpy(),
            mask=mask[0].cpu().numpy(),
            last_word_read=last_word_read(plain, self._clip.tokenizer),
        )


def plain_text(text: str, tokenizer: Any) -> str:
    """The text with the tokenizer's special tokens broken up.

    What a caller types is words, never a command.
    """
    if not isinstance(tokenizer, SimpleTokenizer):
        return text
    cleaned: str = tokenizer.clean_fn(text)
    # Cleaning unescapes HTML, so that what is no token yet may become one the next time.
    while (again := tokenizer.clean_fn(cleaned)) != cleaned:
        cleaned = again
    for token in (tokenizer.decoder[i] for i in tokenizer.all_special_ids):
        cleaned = re.sub(re.escape(token), f"{token[0]} {token[1:]}", cleaned, flags=re.IGNORECASE)
    return cleaned


def last_word_read(text: str, tokenizer: Any) -> str:
    """The last word that fits whole into the context; empty if all of the text fits."""
    if not isinstance(tokenizer, SimpleTokenizer):
        return ""
    tokens = tokenizer.encode(text)
    room = (tokenizer.context_length or 0) - 2  # for the start and the end
    if len(tokens) <= room:
        return ""
    ends = [i for i, token in enumerate(tokens[:room]) if tokenizer.decoder[token].endswith(END_OF_WORD)]
    if not ends:
        return ""
    start = ends[-2] + 1 if len(ends) > 1 else 0
    word: str = tokenizer.decode(tokens[start : ends[-1] + 1])
    return word.strip()
