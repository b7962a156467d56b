"""Classifier-free guidance for a batch whose rows each have their own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Network = Callable[[Sequence[int], Sequence[bool]], Tensor]


def guided(network: Network, scales: Sequence[float], channels: int, pad_to: int = 0) -> list[Tensor]:
    """u + s (c - u) for every row (arXiv 2207.12598, equation 6), on its first ``channels`` channels.

    network(rows, conditional) evaluates the given row indices, each with or without its conditioning, in one call.
    A row with scale 1 is evaluated once, any other twice, packed without gaps. ``pad_to`` > 0 repeats evaluations
    until their number is a multiple of it: kernels may round differently at another batch size, so a fixed size
    is what keeps a row's result the same in any company. Channels past ``channels`` (variance) are the conditional ones.
    """
    free = [i for i, scale in enumerate(scales) if scale != 1.0]
    rows, conditional = [*range(len(scales)), *free], [True] * len(scales) + [False] * len(free)
    padding = -len(rows) % pad_to if pad_to else 0
    outputs = network(rows + [0] * padding, conditional + [True] * padding)
    results = list(outputs[: len(scales)].unbind())
    for place, i in enumerate(free, start=len(scales)):
        mean, base = results[i][:channels], outputs[place][:channels]
        results[i] = torch.cat([base + scales[i] * (mean - base), results[i][channels:]])
    return results
