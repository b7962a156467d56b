"""Write trained networks as parts of a bundle: a config, and safetensors in bfloat16."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import nn


def save_part(model: nn.Module, config: BaseModel, target: Path) -> None:
    """Write ``target/config.json`` and ``target/model.safetensors``."""
    save_weights(model, target)
    (target / "config.json").write_text(config.model_dump_json(indent=2) + "\n")


def save_weights(model: nn.Module, target: Path) -> None:
    """Write ``target/model.safetensors``, in bfloat16."""
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    save_file(weights, target / "model.safetensors")
