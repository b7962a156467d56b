"""CLIP's towers in ``transformers``' layout to open_clip's: pure functions of state dicts and configs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from services.bundles.karlo import Renames, State, renamed

LAYERS: Renames = (
    (r"\.encoder\.layers\.", ".resblocks."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm1\.", ".ln_1."),
    (r"\.layer_norm2\.", ".ln_2."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
TEXT: Renames = (
    *LAYERS,
    (r"^text_model\.resblocks\.", "transformer.resblocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
)
IMAGE: Renames = (
    *LAYERS,
    (r"^vision_model\.resblocks\.", "visual.transformer.resblocks."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
)
TRANSPOSED = ("text_projection", "visual.proj")
POSITION_IDS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
PARTS = re.compile(r"(.*)\.self_attn\.q_proj\.(weight|bias)")
ACTIVATIONS = {"quick_gelu": True, "gelu": False}  # by name: whether it is open_clip's QuickGELU


def text(state: State) -> dict[str, Tensor]:
    """``CLIPTextModelWithProjection`` to the text tower of ``open_clip.CLIP``."""
    return _tower(state, TEXT)


def image(state: State) -> dict[str, Tensor]:
    """``CLIPVisionModelWithProjection`` to the image tower of ``open_clip.CLIP``."""
    return _tower(state, IMAGE)


def _tower(state: State, renames: Renames) -> dict[str, Tensor]:
    joined = {key: value for key, value in state.items() if "_proj." not in key or "self_attn" not in key}
    joined |= {key: value for key, value in state.items() if "self_attn.out_proj" in key}
    for key in state:
        if found := PARTS.fullmatch(key):
            layer, kind = found.groups()
            parts = [state[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            joined[f"{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    for key in POSITION_IDS:
        joined.pop(key, None)
    own = renamed(joined, renames)
    return {key: value.T.contiguous() if key in TRANSPOSED else value for key, value in own.items()}


def model_config(text_config: Mapping[str, Any], image_config: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's ``model_cfg`` for towers with these ``config.json``. Raises ValueError for what differs."""
    for config in (text_config, image_config):
        if config["hidden_act"] not in ACTIVATIONS:
            raise ValueError(f"hidden_act: {config['hidden_act']!r} is not implemented")
        if config.get("layer_norm_eps", 1e-5) != 1e-5:
            raise ValueError(f"layer_norm_eps: {config['layer_norm_eps']} is not implemented; 1e-05 is")
    for name in ("projection_dim", "hidden_act"):
        if text_config[name] != image_config[name]:
            raise ValueError(f"{name}: the towers differ, {text_config[name]!r} and {image_config[name]!r}")
    heads = image_config["num_attention_heads"]
    return {
        "embed_dim": text_config["projection_dim"],
        "quick_gelu": ACTIVATIONS[text_config["hidden_act"]],
        "text_cfg": {
            "context_length": text_config["max_position_embeddings"],
            "vocab_size": text_config["vocab_size"],
            "width": text_config["hidden_size"],
            "heads": text_config["num_attention_heads"],
            "layers": text_config["num_hidden_layers"],
            "mlp_ratio": text_config["intermediate_size"] / text_config["hidden_size"],
        },
        "vision_cfg": {
            "image_size": image_config["image_size"],
            "layers": image_config["num_hidden_layers"],
            "width": image_config["hidden_size"],
            "head_width": image_config["hidden_size"] // heads,
            "patch_size": image_config["patch_size"],
            "mlp_ratio": image_config["intermediate_size"] / image_config["hidden_size"],
        },
    }
