"""CLIP's towers through open_clip: the bundle's own, or those of a model that open_clip knows by name."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from torch import nn

from services.bundles.bundle import ROOT, Bundle, BundleError
from services.bundles.clip_source import ClipSource
from services.bundles.weights import best_device, load_network, read_tensors

PART = "clip"
VOCABULARY = "vocabulary.txt.gz"
WEIGHTS = "open_clip_model.safetensors"
Tower = Literal["text", "image"]


@dataclass(frozen=True)
class Clip:
    """One tower of a CLIP, the tokenizer, and the bundle it is served with.

    logit_scale: what cosines are multiplied by; 0 of an image tower. side, mean, std: how pictures are
    prepared for it; mean and std are of each channel, in [0, 1].
    """

    model: nn.Module
    tokenizer: Any  # of the text tower
    logit_scale: float
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bundle: Bundle
    device: torch.device


def load_clip(source: ClipSource, threads: int, tower: Tower) -> Clip:
    """Load one tower for inference. threads: of torch, in this whole process.

    A bundle has both towers in one part, or each in its own. Raises BundleError where the source is
    incomplete or not safetensors.
    """
    torch.set_num_threads(threads)
    device = best_device()
    part = PART if Bundle(source.bundle).parts(PART) else f"{tower}-tower"
    bundle = Bundle(source.bundle, part)
    if source.name:
        weights = Path(ROOT / source.weights)
        if weights.suffix != ".safetensors":
            raise BundleError(f"weights: {weights} is not a safetensors file; see services.bundles.convert")
        config: dict[str, Any] = {"model_cfg": open_clip.get_model_config(source.name)}
        if config["model_cfg"] is None:
            raise BundleError(f"name: open_clip knows no model {source.name!r}")
        tokenizer = open_clip.get_tokenizer(source.name)
        model = _loaded(config["model_cfg"], weights, tower, device)
    else:
        folder = bundle.part(part)
        weights = folder / WEIGHTS
        model, config = read_tower(folder, tower, device)
        vocabulary = folder / VOCABULARY
        name = f"local-dir:{folder}"
        tokenizer = open_clip.get_tokenizer(name, bpe_path=str(vocabulary)) if vocabulary.exists() else None
    prepare = {**open_clip.transform.PreprocessCfg().__dict__, **config.get("preprocess_cfg", {})}
    return Clip(
        model=model,
        tokenizer=tokenizer,
        logit_scale=float(read_tensors(weights, "logit_scale")[0].float().exp()) if tower == "text" else 0.0,
        side=config["model_cfg"]["vision_cfg"]["image_size"],
        mean=tuple(prepare["mean"]),
        std=tuple(prepare["std"]),
        bundle=bundle,
        device=device,
    )


def read_tower(
    folder: Path, tower: Tower, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A tower of a bundle's part, and open_clip's config. dtype: if not the device's best."""
    config: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text())
    return _loaded(config["model_cfg"], folder / WEIGHTS, tower, device, dtype), config


def _loaded(
    config: dict[str, Any],
    weights: Path,
    tower: Tower,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    build = partial(tower_of, config, tower)
    model = load_network(build, weights, device, partial(_belongs, tower), dtype)
    _fill_causal_mask(model, device)
    return model


def _belongs(tower: Tower, key: str) -> bool:
    """Whether a weight is the tower's."""
    return key.startswith("visual.") == (tower == "image")


def tower_of(config: dict[str, Any], tower: Tower) -> nn.Module:
    """The model that a ``model_cfg`` describes, without its other tower."""
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    try:
        model: nn.Module = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    except TypeError as error:
        raise BundleError(f"this kind of open_clip model is not implemented: {error}") from None
    for name in {key.split(".")[0] for key in model.state_dict() if not _belongs(tower, key)}:
        delattr(model, name)
    return model


def _fill_causal_mask(model: nn.Module, device: torch.device) -> None:
    """Make the one buffer that is in no file, and is added to the attention's logits.

    Raises BundleError if there are others.
    """
    for module in model.modules():
        mask = getattr(module, "attn_mask", None)
        if isinstance(mask, torch.Tensor):
            filled = torch.full(mask.shape, float("-inf"), device=device, dtype=mask.dtype).triu_(1)
            module.register_buffer("attn_mask", filled, persistent=False)
    if left := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        raise BundleError(f"this kind of open_clip model is not implemented: it computes {', '.join(left)}")
