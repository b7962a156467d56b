"""Classifier-free guidance for a batch whose rows each have their own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Network = Callable[[Sequence[int], Sequence[bool]], Tensor]


def guided(network: Network, scales: Sequence[float], channels: int, call_size: int = 0) -> list[Tensor]:
    """u + s (c - u) for every row, on its first ``channels`` channels (arXiv 2207.12598, equation 6).

    network(rows, conditional) evaluates the given row indices, each with or without its conditioning. A row
    of scale 1 is evaluated once, any other twice. Channels past ``channels`` (the variance) are those of the
    conditional evaluation.

    call_size: how many evaluations every call of the network holds, the last one filled up with repeats; 0
    makes one call of all. Kernels may round differently at another batch size. Where they do, a fixed size
    keeps a row's result the same in any company.
    """
    count = len(scales)
    guided_rows = [i for i, scale in enumerate(scales) if scale != 1.0]
    rows = [*range(count), *guided_rows]
    conditional = [True] * count + [False] * len(guided_rows)
    outputs = _evaluated(network, rows, conditional, call_size or len(rows))
    results = outputs[:count]
    for i, output in zip(guided_rows, outputs[count:], strict=True):
        with_condition = results[i][:channels]
        without = output[:channels]
        mixed = without + scales[i] * (with_condition - without)
        results[i] = torch.cat([mixed, results[i][channels:]])
    return results


def _evaluated(
    network: Network, rows: Sequence[int], conditional: Sequence[bool], call_size: int
) -> list[Tensor]:
    """The network's output for every (row, conditional), in calls of exactly ``call_size``."""
    padding = -len(rows) % call_size
    padded_rows = [*rows, *[rows[0]] * padding]
    padded_conditional = [*conditional, *[True] * padding]
    calls = [slice(i, i + call_size) for i in range(0, len(padded_rows), call_size)]
    outputs = [network(padded_rows[call], padded_conditional[call]) for call in calls]
    return [output for call in outputs for output in call.unbind()][: len(rows)]
