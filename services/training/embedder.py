"""Scenes and captions as the networks see them: pictures as signals, both embedded by the bundle's frozen CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.training import clip, loop

Text = tuple[Tensor, Tensor, Tensor]


class Embedder:
    """The frozen CLIP: captions and pictures to what the decoder is conditioned on."""

    def __init__(self, folder: Path) -> None:
        model, self.tokenizer = clip.load(folder)
        self.model: Any = model

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> Text:
        """(embedding (B, D), token states (B, L, W), mask (B, L))."""
        tokens = self.tokenizer(list(captions)).to(loop.device())
        with loop.autocast():
            out = self.model.forward_intermediates(text=tokens, text_indices=1, normalize=False, normalize_intermediates=True)
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(-1, keepdim=True)
        return out["text_features"].float(), out["text_intermediates"][-1].float(), mask

    @torch.no_grad()
    def image(self, pictures: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> (B, D)."""
        with loop.autocast():
            return self.model.encode_image(clip.to_input(pictures)).float()


def to_signal(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) -> (B, 3, H, W) in [-1, 1] on the training device."""
    return torch.from_numpy(pictures).to(loop.device()).permute(0, 3, 1, 2).float() / 127.5 - 1


def drop_text(text: Text, blank: Text, share: float, rng: np.random.Generator) -> Text:
    """Replace a share of the rows' captions by the empty one, which guidance is measured against."""
    kept = torch.from_numpy(rng.random(len(text[0])) >= share).to(loop.device())
    mixed = [torch.where(kept.view(-1, *[1] * (t.ndim - 1)), t, b) for t, b in zip(text, blank, strict=True)]
    return mixed[0], mixed[1], mixed[2]
