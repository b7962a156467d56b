"""Classifier-free guidance for a batch whose rows each have their own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Evaluate = Callable[[Sequence[int], Sequence[bool]], Sequence[Tensor]]


def guided(evaluate: Evaluate, scales: Sequence[float], channels: int) -> list[Tensor]:
    """u + s (c - u) for every row, on its first ``channels`` channels (arXiv 2207.12598, equation 6).

    evaluate(rows, conditional): the network's outputs for the given row indices, each with or without its
    conditioning. A row of scale 1 is evaluated once, any other twice. Channels past ``channels`` (the
    variance) are those of the conditional evaluation.
    """
    count = len(scales)
    guided_rows = [i for i, scale in enumerate(scales) if scale != 1.0]
    rows = [*range(count), *guided_rows]
    conditional = [True] * count + [False] * len(guided_rows)
    outputs = evaluate(rows, conditional)
    results = list(outputs[:count])
    for i, output in zip(guided_rows, outputs[count:], strict=True):
        with_condition = results[i][:channels]
        without = output[:channels]
        mixed = without + scales[i] * (with_condition - without)
        results[i] = torch.cat([mixed, results[i][channels:]])
    return results
