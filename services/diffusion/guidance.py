"""Classifier-free guidance for a batch whose rows each have their own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Network = Callable[[Sequence[int], Sequence[bool]], Tensor]


def guided(network: Network, scales: Sequence[float], channels: int, call_size: int = 0) -> list[Tensor]:
    """u + s (c - u) for every row (arXiv 2207.12598, equation 6), on its first ``channels`` channels.

    network(rows, conditional) evaluates the given row indices, each with or without its conditioning. A row with
    scale 1 is evaluated once, any other twice, packed without gaps. ``call_size`` > 0 makes every call that size,
    the last one padded with repeats; 0 makes one call of all. Kernels may round differently at another batch size,
    so where they do, a fixed size is what keeps a row's result the same in any company.
    Channels past ``channels`` (variance) are the conditional ones.
    """
    free = [i for i, scale in enumerate(scales) if scale != 1.0]
    rows, conditional = [*range(len(scales)), *free], [True] * len(scales) + [False] * len(free)
    outputs = _evaluated(network, rows, conditional, call_size or len(rows))
    results = outputs[: len(scales)]
    for place, i in enumerate(free, start=len(scales)):
        mean, base = results[i][:channels], outputs[place][:channels]
        results[i] = torch.cat([base + scales[i] * (mean - base), results[i][channels:]])
    return results


def _evaluated(
    network: Network, rows: Sequence[int], conditional: Sequence[bool], call_size: int
) -> list[Tensor]:
    """The network's output for every (row, conditional), in calls of exactly ``call_size``."""
    padding = -len(rows) % call_size
    rows, conditional = [*rows, *[rows[0]] * padding], [*conditional, *[True] * padding]
    calls = range(0, len(rows), call_size)
    outputs = [network(rows[i : i + call_size], conditional[i : i + call_size]) for i in calls]
    return [output for call in outputs for output in call.unbind()][: len(rows) - padding]
