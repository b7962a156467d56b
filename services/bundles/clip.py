"""CLIP through open_clip: the bundle's own, or any model that open_clip knows by name with local weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from services.bundles.bundle import ROOT, Bundle, BundleError
from services.bundles.clip_source import ClipSource
from services.bundles.weights import best_device, to_device

PART = "clip"
VOCABULARY = "vocabulary.txt.gz"


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: the model, its tokenizer, and the bundle it is served with.

    side, mean, std: how pictures are prepared for it; mean and std are of each channel, in [0, 1].
    """

    model: nn.Module
    tokenizer: Any
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bundle: Bundle
    device: torch.device


def load_clip(source: ClipSource, threads: int) -> Clip:
    """Load CLIP for inference. threads: of torch, in this whole process.

    Raises BundleError where the source is incomplete or not safetensors.
    """
    torch.set_num_threads(threads)
    bundle = Bundle(source.bundle, PART)
    device = best_device()
    if source.name:
        weights = Path(ROOT / source.weights)
        if weights.suffix != ".safetensors":
            raise BundleError(f"weights: {weights} is not a safetensors file; see services.bundles.convert")
        model = open_clip.create_model(source.name, pretrained=str(weights))
        tokenizer = open_clip.get_tokenizer(source.name)
    else:
        name = f"local-dir:{bundle.part(PART)}"
        model = open_clip.create_model(name)
        tokenizer = open_clip.get_tokenizer(name, bpe_path=str(bundle.part(PART) / VOCABULARY))
    prepare = open_clip.get_model_preprocess_cfg(model)
    size = prepare["size"]
    return Clip(
        model=to_device(model, device),
        tokenizer=tokenizer,
        side=size if isinstance(size, int) else size[0],
        mean=tuple(prepare["mean"]),
        std=tuple(prepare["std"]),
        bundle=bundle,
        device=device,
    )
