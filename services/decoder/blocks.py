"""What the U-Net is made of: residual blocks, attention, levels of both, and layers at full resolution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.decoder.unet_config import DETAIL_GROUP, NORM_EPS, UNetConfig
from services.diffusion.lanes import one_thread
from services.diffusion.row_linear import RowLinear

MANY_PLACES = 1024  # from which torch's kernel for bfloat16 on a CPU is the faster one
# Values of a picture up to which one thread is as fast as two, if there are few pictures. How one rounds does
# not depend on how many threads there are.
ONE_THREAD = 2**20


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 whatever the input's type, as in GLIDE.

    torch's own kernel also computes in float32, and is several times as fast on a CPU, but for few places.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns the same shape and type."""
        if x.shape[2] * x.shape[3] >= MANY_PLACES:
            alone = not x.is_cuda and torch.is_inference_mode_enabled() and x[0].numel() <= ONE_THREAD
            with one_thread() if alone else nullcontext():
                return super().forward(x).to(x.dtype)
        normalised = F.group_norm(
            x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps
        )
        return normalised.to(x.dtype)


class ResBlock(nn.Module):
    """Two convolutions with the time embedding between them.

    resample: "down" or "up" halves or doubles the sides first.
    """

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = config.scale_shift
        self.norm1 = GroupNorm(config.groups, channels_in, NORM_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = RowLinear(config.time_dim, channels_out * (2 if config.scale_shift else 1))
        self.norm2 = GroupNorm(config.groups, channels_out, NORM_EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resample == "up" else x

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: (B, C_in, H, W); time: (B, time_dim), already activated. Returns (B, C_out, H', W')."""
        h = self.conv1(self._resampled(F.silu(self.norm1(x))))
        shift = self.time(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + shift)
        return self.skip(self._resampled(x)) + self.conv2(F.silu(h))


class AddedKVAttention(nn.Module):
    """Self-attention over positions; the projected context tokens lead its keys and values (GLIDE)."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.heads = channels // config.head_dim
        self.norm = GroupNorm(config.groups, channels, NORM_EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.context_key, self.context_value = (nn.Linear(config.context_dim, channels) for _ in range(2))

    def keys_values(self, context: Tensor) -> Tensor:
        """Context tokens (B, L, context_dim) to their keys and values, (B, L, 2 C)."""
        return torch.cat([self.context_key(context), self.context_value(context)], dim=-1)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """Returns x's shape, (B, C, H, W).

        context: its keys and values, (B, L, 2 C). bias: (B, 1, 1, L), added to its logits.
        """
        b, c, h, w = x.shape
        positions = self.norm(x).flatten(2).transpose(1, 2)
        context_key, context_value = context.chunk(2, dim=-1)
        key = torch.cat([context_key, self.key(positions)], dim=1)
        value = torch.cat([context_value, self.value(positions)], dim=1)
        query, key, value = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.query(positions), key, value)
        )
        mask = F.pad(bias, (0, h * w)).to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return x + self.out(attended.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(b, c, h, w)


class Level(nn.Module):
    """One level's residual blocks, each with attention or without, then an optional resampling block."""

    def __init__(
        self, blocks: list[ResBlock], attentions: list[AddedKVAttention], resampler: ResBlock | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resampler = resampler

    def step(self, index: int, x: Tensor, time: Tensor, contexts: Iterator[Tensor], bias: Tensor) -> Tensor:
        """Block number ``index`` and its attention, if the level has any, with the next of the contexts."""
        x = self.blocks[index](x, time)
        return self.attentions[index](x, next(contexts), bias) if len(self.attentions) else x


class Detail(nn.Module):
    """Refines at full resolution what was predicted in patches, so that edges go on across patches."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.detail
        config = config.model_copy(update={"groups": width // DETAIL_GROUP})
        self.conv_in = nn.Conv2d(config.in_channels + config.out_channels, width, 3, padding=1)
        self.block = ResBlock(config, width, width)
        self.norm_out = GroupNorm(config.groups, width, NORM_EPS)
        self.conv_out = nn.Conv2d(width, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, coarse: Tensor, time: Tensor) -> Tensor:
        """Refine a prediction; returns its shape.

        x: the network's input, (B, in_channels, H, W). coarse: the prediction, (B, out_channels, H, W).
        time: as a ResBlock's.
        """
        h = self.conv_in(torch.cat([x, coarse], dim=1).contiguous(memory_format=torch.channels_last))
        refined: Tensor = coarse + self.conv_out(F.silu(self.norm_out(self.block(h, time))))
        return refined
