"""CLIP from the bundle, and from any folder in the layout of open_clip's repositories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import default_bpe
from safetensors.torch import save_file

from services.bundles.bundle import BundleError
from services.bundles.clip import load_image_tower, load_text_tower
from services.bundles.clip_source import ClipSource
from services.image_encoder.encoder import ImageEncoder
from services.text_encoder.encoder import TextEncoder

NAME = "ViT-S-32-alt"  # the smallest that open_clip has a config of
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def publish(folder: Path, **changed: Any) -> torch.nn.Module:
    """A model of open_clip's, in a folder as it is published."""
    torch.manual_seed(0)
    model: torch.nn.Module = open_clip.create_model(NAME).eval()
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    config = {"model_cfg": {**open_clip.get_model_config(NAME), **changed}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "merges.txt").write_bytes(gzip.decompress(Path(default_bpe()).read_bytes()))
    return model


def test_a_folder_in_open_clips_layout(tmp_path: Path) -> None:
    reference: Any = publish(tmp_path)
    source = ClipSource(bundle="models", folder=str(tmp_path))
    encoded = TextEncoder(load_text_tower(source, 2)).encode(["a fox", ""])[0]
    with torch.no_grad():
        text = reference.encode_text(open_clip.get_tokenizer(NAME)(["a fox"]))[0].numpy()
    assert encoded.states.shape == (77, text.shape[0])
    assert encoded.mask.sum() == 4
    scale = float(reference.logit_scale.detach().exp())
    assert TextEncoder(load_text_tower(source, 2)).logit_scale == pytest.approx(scale, rel=1e-6)
    assert cosine(encoded.embedding, text) > 0.99
    clip = load_image_tower(source, 2)
    assert ImageEncoder(clip).encode(PICTURE).shape == text.shape
    assert all(key.startswith("visual.") for key in clip.tower.state_dict()), "the text tower's"


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    source = ClipSource(bundle="models", folder=str(tmp_path))
    with pytest.raises(BundleError, match=r"open_clip_config\.json cannot be read"):
        load_text_tower(source, 2)
    publish(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(BundleError, match=r"neither vocabulary\.txt\.gz nor merges\.txt"):
        TextEncoder(load_text_tower(source, 2))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(BundleError, match="makes 515 tokens"):
        TextEncoder(load_text_tower(source, 2))
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"services\.bundles\.convert"):
        load_text_tower(source, 2)


def test_towers_of_other_kinds_are_refused(tmp_path: Path) -> None:
    publish(tmp_path, custom_text=True)
    with pytest.raises(BundleError, match="custom_text"):
        load_image_tower(ClipSource(bundle="models", folder=str(tmp_path)), 2)


def test_the_bundles_clip_ranks_a_colour_by_its_name() -> None:
    source = ClipSource(bundle="models")
    texts = [
        e.embedding
        for e in TextEncoder(load_text_tower(source, 2)).encode(
            ["a star in the snow", "a star at night among the stars"]
        )
    ]
    night = np.full((64, 64, 3), (12, 12, 45), np.uint8)
    image = ImageEncoder(load_image_tower(source, 2)).encode(night)
    assert cosine(image, texts[1]) > cosine(image, texts[0])
