"""CLIP's towers at their real size, and all published networks by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from services.bundles.clip import read_tower
from services.importing.writing import clip_config, write_tower
from tests.parity.published import (
    CPU,
    Case,
    Inputs,
    Network,
    kandinsky_unet,
    karlo_decoder,
    karlo_upsampler,
    movq,
    noise,
    part,
    prior,
    saved,
)

TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "bigG": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "heads": 20},
    "L": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "heads": 12},
}
IMAGE_TOWERS: dict[str, dict[str, Any]] = {
    "bigG": {"hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "heads": 16},
    "L": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "heads": 16},
}
WIDTHS = {"bigG": 1280, "L": 768}
ACTIVATIONS = {"bigG": "gelu", "L": "quick_gelu"}


def text_tower(name: str) -> Case:
    def inputs() -> Inputs:
        tokens = torch.zeros(1, 77, dtype=torch.long)
        tokens[0, 0], tokens[0, 1:9], tokens[0, 9] = 49406, torch.randint(1, 49000, (8,)), 49407
        return {"tokens": tokens}

    def theirs(network: Network, i: Inputs) -> Tensor:
        out = network(i["tokens"])
        return torch.cat([out.text_embeds[:, None], out.last_hidden_state], dim=1)

    def ours(network: Network, i: Inputs) -> Tensor:
        embeddings, states = network(i["tokens"])
        return torch.cat([embeddings[:, None], states], dim=1)

    return Case(
        build=lambda: CLIPTextModelWithProjection(_text_config(name)),
        save=saved,
        inputs=inputs,
        theirs=theirs,
        write=lambda given, bundle: _write_tower(name, "text", given, bundle),
        load=lambda bundle: read_tower(bundle / "text-tower", "text", CPU)[0],
        ours=ours,
    )


def image_tower(name: str) -> Case:
    return Case(
        build=lambda: CLIPVisionModelWithProjection(_image_config(name)),
        save=saved,
        inputs=lambda: {"pixels": noise(1, 3, 224, 224)},
        theirs=lambda network, i: network(i["pixels"]).image_embeds,
        write=lambda given, bundle: _write_tower(name, "image", given, bundle),
        load=lambda bundle: read_tower(bundle / "image-tower", "image", CPU)[0],
        ours=lambda network, i: network(i["pixels"]),
    )


def _text_config(name: str) -> CLIPTextConfig:
    given = {**TEXT_TOWERS[name]}
    heads = given.pop("heads")
    return CLIPTextConfig(
        **given,
        num_attention_heads=heads,
        vocab_size=49408,
        projection_dim=WIDTHS[name],
        hidden_act=ACTIVATIONS[name],
        eos_token_id=2,
    )


def _image_config(name: str) -> CLIPVisionConfig:
    given = {**IMAGE_TOWERS[name]}
    heads = given.pop("heads")
    return CLIPVisionConfig(
        **given,
        num_attention_heads=heads,
        image_size=224,
        patch_size=14,
        projection_dim=WIDTHS[name],
        hidden_act=ACTIVATIONS[name],
    )


def _write_tower(name: str, tower: Any, given: Path, bundle: Path) -> None:
    """One tower, beside the other one's config."""
    other = given / "other"
    other.mkdir(exist_ok=True)
    config = _image_config(name) if tower == "text" else _text_config(name)
    config.save_pretrained(other)
    prepare = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (other / "preprocessor_config.json").write_text(json.dumps(prepare))
    pair = (part(given), part(other)) if tower == "text" else (part(other), part(given))
    write_tower(bundle / f"{tower}-tower", tower, part(given), clip_config(*pair, part(other)), torch.float32)


CASES: dict[str, Case] = {
    "Kandinsky 2.2: prior": prior(1280),
    "Kandinsky 2.2: decoder": kandinsky_unet(4),
    "Kandinsky 2.2: decoder for inpainting": kandinsky_unet(9),
    "Kandinsky 2.2: MoVQ": movq(),
    "Kandinsky 2.2: text tower (ViT-bigG-14)": text_tower("bigG"),
    "Kandinsky 2.2: image tower (ViT-bigG-14)": image_tower("bigG"),
    "Karlo: prior": prior(768),
    "Karlo: decoder": karlo_decoder(),
    "Karlo: super-resolution": karlo_upsampler(),
    "Karlo: text tower (ViT-L-14)": text_tower("L"),
    "Karlo: image tower (ViT-L-14)": image_tower("L"),
}
