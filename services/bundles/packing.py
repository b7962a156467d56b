"""Convolutions on a CPU whose weights lie in memory as its kernels read them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

# oneDNN chooses the order by the input; this one suits deep layers, whose weights are the largest.
BATCH, SIDE = 2, 16


class PackedConv2d(nn.Module):
    """Computes what an ``nn.Conv2d`` does, without putting its weight in order in every call.

    That takes as long as the convolution itself where weights are large and pictures small. torch's compiler
    calls the same operators.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        shape = (cast(tuple[int, ...], conv.padding), conv.stride, conv.dilation)
        self._shape = [list(part) for part in shape]
        self._groups = conv.groups
        input_shape = [BATCH, conv.in_channels, SIDE, SIDE]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight, *self._shape, conv.groups, input_shape
        )
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C_in, H, W). Returns (B, C_out, H', W')."""
        operator: Any = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = operator(x, self._weight, self.bias, *self._shape, self._groups, "none", [], "")
        return result


def pack(network: nn.Module) -> None:
    """Pack its convolutions where they lie, one by one, so that memory holds little more than the network."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.padding_mode == "zeros":
                setattr(parent, name, PackedConv2d(child))
