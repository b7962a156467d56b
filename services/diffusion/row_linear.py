"""A linear layer that rounds a single row as it rounds several."""

from __future__ import annotations

from torch import Tensor, nn


class RowLinear(nn.Linear):
    """A linear layer of rows (B, D).

    A single row is a vector to a CPU's kernels, which round differently for those. So it is given twice.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: (B, D); returns (B, out_features)."""
        if len(input) > 1:
            return super().forward(input)
        return super().forward(input.expand(2, -1))[:1]
