"""Weights into networks, strictly: a missing, spare or misshapen tensor is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from services.bundles.bundle import BundleError

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, source: Path | Mapping[str, Tensor]) -> Network:
    """Fill a network from a safetensors file or a state dict.

    Raises BundleError naming every key that does not fit.
    """
    state = load_file(source) if isinstance(source, Path) else source
    own = network.state_dict()
    problems = [f"missing {key}" for key in own.keys() - state.keys()]
    problems += [f"spare {key}" for key in state.keys() - own.keys()]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    if problems:
        raise BundleError(f"the weights do not fit {type(network).__name__}: {'; '.join(sorted(problems))}")
    network.load_state_dict(dict(state))
    return network


def best_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def to_device(network: Network, device: torch.device) -> Network:
    """The network on the device, ready for inference: in its best type, channels last, frozen."""
    network.to(  # type: ignore[call-overload]
        device=device, dtype=best_dtype(device), memory_format=torch.channels_last
    )
    return network.eval().requires_grad_(False)
