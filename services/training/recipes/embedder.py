"""Scenes and captions as the bundle's frozen CLIP sees them: what decoder and prior are conditioned on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.bundles.bundle import sha256
from services.bundles.weights import best_device
from services.training.data.corpus import Corpus, Indices
from services.training.device import autocast
from services.training.loop import console
from services.training.recipes import clip

Text = tuple[Tensor, Tensor, Tensor]  # embedding (B, D), token states (B, L, W), mask (B, L)
PART = 512  # scenes embedded at a time
PERCEPTUAL_BLOCKS = 2  # how many of CLIP's last blocks are compared
ROLL = 8  # half a patch, in px


class Embedder:
    """The frozen CLIP of a bundle. digest: the sha256 of its weights."""

    def __init__(self, bundle: Path) -> None:
        model, self.tokenizer = clip.load(bundle)
        self.model: Any = model
        self.digest = sha256(bundle / "clip/open_clip_model.safetensors")

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> Text:
        """Embed captions."""
        tokens = self.tokenizer(captions).to(best_device())
        with autocast():
            out = self.model.forward_intermediates(
                text=tokens, text_indices=1, normalize=False, normalize_intermediates=True
            )
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(-1, keepdim=True)
        return out["text_features"].float(), out["text_intermediates"][-1].float(), mask

    @torch.no_grad()
    def image(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Embed pictures (B, H, W, 3); returns (B, D)."""
        with autocast():
            return self.model.encode_image(clip.to_input(pictures)).float()

    def perceptual_distance(self, made: Tensor, real: Tensor, rng: np.random.Generator) -> Tensor:
        """How differently CLIP sees two batches of signals (B, 3, H, W); differentiable in ``made``.

        The sum of 1 - cosine of the patches in the last blocks, and of the embeddings. This is PixelGen's
        DINO loss (arXiv 2602.02493) on the bundle's CLIP. Both batches are rolled by the same random offset
        of at most half a patch, so no place of the picture is always at a patch's edge.
        """
        offset = tuple(rng.integers(-ROLL, ROLL + 1, 2).tolist())
        with torch.no_grad():
            targets = self._features(real.roll(offset, (2, 3)))
        features = self._features(made.roll(offset, (2, 3)))
        cosines = [F.cosine_similarity(a, b, dim=1).mean() for a, b in zip(features, targets, strict=True)]
        *patches, whole = (1 - cosine for cosine in cosines)
        return torch.stack(patches).mean() + whole

    def _features(self, signal: Tensor) -> list[Tensor]:
        """Patches in the last PERCEPTUAL_BLOCKS blocks, then the embedding; channels at dimension 1."""
        out = self.model.forward_intermediates(
            image=clip.from_signal(signal), image_indices=PERCEPTUAL_BLOCKS, normalize=False
        )
        return [f.float() for f in (*out["image_intermediates"], out["image_features"])]


class EmbeddedCorpus:
    """A corpus as CLIP sees it. It is computed once for each CLIP, and kept in half precision.

    All of it lies on the training device: some 13 KiB a scene.
    """

    NAMES = ("image", "text", "states", "mask")

    def __init__(self, corpus: Corpus, embedder: Embedder) -> None:
        path = corpus.folder / f"embeddings-{embedder.digest[:12]}.safetensors"
        if not path.exists():
            columns = zip(*embed(corpus, embedder), strict=True)
            save_file({name: torch.cat(parts) for name, parts in zip(self.NAMES, columns, strict=True)}, path)
        tensors = load_file(path, device=str(best_device()))
        self._image, *self._text = (tensors[name] for name in self.NAMES)

    def image(self, indices: Indices | Tensor) -> Tensor:
        """Image embeddings (B, D), float32, on the training device."""
        return self._image[torch.as_tensor(indices, device=best_device())].float()

    def text(self, indices: Indices | Tensor) -> Text:
        """The captions' embeddings, float32, on the training device."""
        chosen = torch.as_tensor(indices, device=best_device())
        text, states, mask = (t[chosen] for t in self._text)
        return text.float(), states.float(), mask


def embed(corpus: Corpus, embedder: Embedder) -> Iterator[tuple[Tensor, ...]]:
    """Images, texts, their states and masks, in half precision, part by part of a corpus."""
    for start in track(range(0, corpus.count, PART), "embedding scenes", console=console):
        part = slice(start, start + PART)
        text, states, mask = embedder.text([s.caption for s in corpus.scenes[part]])
        image = embedder.image(np.array(corpus.pictures[part]))
        yield image.half().cpu(), text.half().cpu(), states.half().cpu(), mask.cpu()


def first(text: Text, count: int) -> Text:
    """The first texts."""
    embedding, states, mask = text
    return embedding[:count], states[:count], mask[:count]


def with_captions(text: Text, others: Text) -> Text:
    """The texts, but the first of them are others."""
    mixed = [torch.cat([other, own[len(other) :]]) for own, other in zip(text, others, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def without_captions(text: Text, blank: Text, dropped: Tensor) -> Text:
    """Replace captions by the empty one, against which guidance is measured.

    blank: the empty caption, embedded, with B = 1. dropped: of which rows, (B,).
    """
    kept = ~dropped
    mixed = [torch.where(kept.view(-1, *[1] * (t.ndim - 1)), t, b) for t, b in zip(text, blank, strict=True)]
    return mixed[0], mixed[1], mixed[2]
