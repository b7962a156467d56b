"""The sinusoidal embedding of timesteps that every network of the family starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids with the cosines first (arXiv 1706.03762, section 3.5): (B,) -> (B, dim) in float32."""
    half = dim // 2
    frequencies = torch.exp(
        -math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=timesteps.device)
    )
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
