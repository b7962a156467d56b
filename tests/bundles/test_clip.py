"""CLIP from the bundle, and any model that open_clip knows by name with local weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from services.bundles.bundle import BundleError
from services.bundles.clip import load_clip
from services.bundles.clip_source import ClipSource
from services.image_encoder.encoder import ImageEncoder
from services.text_encoder.encoder import TextEncoder

NAME = "ViT-S-32-alt"  # the smallest that open_clip has a config of
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_any_open_clip_model_by_name_with_local_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = open_clip.create_model(NAME).eval()
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "clip.safetensors")
    source = ClipSource(bundle="models", name=NAME, weights=str(tmp_path / "clip.safetensors"))
    encoded = TextEncoder(load_clip(source, 2, "text")).encode(["a fox", ""])[0]
    with torch.no_grad():
        text = reference.encode_text(open_clip.get_tokenizer(NAME)(["a fox"]))[0].numpy()
    assert encoded.states.shape == (77, text.shape[0])
    assert encoded.mask.sum() == 4
    assert cosine(encoded.embedding, text) > 0.99
    clip = load_clip(source, 2, "image")
    assert ImageEncoder(clip).encode(PICTURE).shape == text.shape
    assert not any(key.startswith("transformer") for key in clip.model.state_dict()), "the text tower's"


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"services\.bundles\.convert"):
        load_clip(ClipSource(bundle="models", name=NAME, weights=str(tmp_path / "clip.pt")), 2, "text")


def test_the_bundles_clip_ranks_a_colour_by_its_name() -> None:
    source = ClipSource(bundle="models")
    texts = [
        e.embedding
        for e in TextEncoder(load_clip(source, 2, "text")).encode(
            ["a star in the snow", "a star at night among the stars"]
        )
    ]
    night = np.full((64, 64, 3), (12, 12, 45), np.uint8)
    image = ImageEncoder(load_clip(source, 2, "image")).encode(night)
    assert cosine(image, texts[1]) > cosine(image, texts[0])
