"""Which tokens attention may look at, as a bias of its logits."""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -10_000.0  # the logit of a hidden token, as in unCLIP's published weights (not minus infinity)


def padding_bias(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, L), true at tokens to look at, as (B, 1, 1, L): 0 there and HIDDEN elsewhere."""
    return (~visible.bool()).to(dtype)[:, None, None, :] * HIDDEN


def causal_bias(length: int, device: torch.device) -> Tensor:
    """(length, length): 0 where a token looks at itself or an earlier one, HIDDEN elsewhere."""
    return torch.full((length, length), HIDDEN, device=device).triu(1)
