"""Convolutions in the order of the CPU's kernels compute the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from services.bundles.packing import PackedConv2d, pack
from services.bundles.weights import best_dtype

SHAPES = [
    nn.Conv2d(3, 32, 3, padding=1),
    nn.Conv2d(64, 48, 1),
    nn.Conv2d(32, 32, 3, stride=2),
    nn.Conv2d(96, 96, 3, padding=1, bias=False),
    nn.Conv2d(3, 64, 14, stride=14, bias=False),
]


@pytest.mark.parametrize("dtype", {torch.float32, best_dtype(torch.device("cpu"))}, ids=str)
@pytest.mark.parametrize("conv", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 8])
@torch.inference_mode()
def test_a_packed_convolution_computes_the_same(conv: nn.Conv2d, batch: int, dtype: torch.dtype) -> None:
    conv = copy.deepcopy(conv).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(batch, conv.in_channels, 28, 28).to(dtype).contiguous(memory_format=torch.channels_last)
    packed = PackedConv2d(conv)(x)
    torch.testing.assert_close(packed, conv(x))
    assert packed.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_all_convolutions_of_a_network_are_packed_where_they_lie() -> None:
    network: nn.Module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Sequential(nn.SiLU(), nn.Conv2d(32, 32, 3)))
    network = network.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    expected = network(x)
    pack(network)
    assert not [module for module in network.modules() if type(module) is nn.Conv2d]
    torch.testing.assert_close(network(x), expected)
