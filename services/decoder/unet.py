"""The diffusion U-Net of the decoder and its upsamplers (modified GLIDE, arXiv 2204.06125, section 2.1).

One class at any size. In Karlo's layout it computes what ``diffusers`` calls ``UNet2DConditionModel``
(decoder: added-KV attention, scale-shift time embedding) and ``UNet2DModel`` (upsamplers: no attention,
additive time embedding).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.decoder.blocks import AddedKVAttention, Detail, GroupNorm, Level, ResBlock
from services.decoder.unet_config import NORM_EPS, UNetConfig
from services.diffusion.row_linear import RowLinear
from services.diffusion.timestep_embedding import timestep_embedding


class UNet(nn.Module):
    """Predicts from a noisy picture, its timestep and its conditioning what the checkpoint's config says."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        folded = config.patch_size**2
        self.time_embed = nn.Sequential(
            RowLinear(widths[0], config.time_dim), nn.SiLU(), RowLinear(config.time_dim, config.time_dim)
        )
        self.conv_in = nn.Conv2d(config.in_channels * folded, widths[0], 3, padding=1)
        side = config.positions
        self.positions = nn.Parameter(torch.zeros(widths[0], side, side)) if side else None
        self.down, skips = self._build_down()
        self.mid = self._build_mid(widths[-1])
        self.up = self._build_up(skips)
        self.norm_out = GroupNorm(config.groups, widths[0], NORM_EPS)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels * folded, 3, padding=1)
        self.detail = Detail(config) if config.detail else None

    def _attentions(self, level: int, count: int) -> list[AddedKVAttention]:
        wanted = count if self.config.attention[level] else 0
        return [AddedKVAttention(self.config, self.config.channels[level]) for _ in range(wanted)]

    def _build_down(self) -> tuple[nn.ModuleList, list[int]]:
        """The levels on the way down, and the widths of what they leave for the way up."""
        config = self.config
        levels = nn.ModuleList()
        width = config.channels[0]
        skips = [width]
        for i, out in enumerate(config.channels):
            blocks = [ResBlock(config, out if j else width, out) for j in range(config.layers_per_level)]
            attentions = self._attentions(i, len(blocks))
            last = i == len(config.channels) - 1
            resampler = None if last else ResBlock(config, out, out, "down")
            levels.append(Level(blocks, attentions, resampler))
            skips += [out] * (len(blocks) + (not last))
            width = out
        return levels, skips

    def _build_mid(self, width: int) -> Level:
        attentions = [AddedKVAttention(self.config, width)] if self.config.mid_attention else []
        return Level([ResBlock(self.config, width, width) for _ in range(2)], attentions, None)

    def _build_up(self, skips: list[int]) -> nn.ModuleList:
        config = self.config
        levels = nn.ModuleList()
        width = config.channels[-1]
        for i, out in reversed(list(enumerate(config.channels))):
            blocks = []
            for _ in range(config.layers_per_level + 1):
                blocks.append(ResBlock(config, width + skips.pop(), out))
                width = out
            attentions = self._attentions(i, len(blocks))
            resampler = ResBlock(config, out, out, "up") if i else None
            levels.append(Level(blocks, attentions, resampler))
        return levels

    def _attending(self) -> list[AddedKVAttention]:
        """In the order in which a picture goes through them."""
        return [module for module in self.modules() if isinstance(module, AddedKVAttention)]

    def keys_values(self, context: Tensor) -> Tensor:
        """What all attention needs of context tokens (B, L, context_dim): (B, L, 2 C of each layer).

        It does not change from step to step.
        """
        nothing = context[..., :0]
        return torch.cat([nothing, *(layer.keys_values(context) for layer in self._attending())], dim=-1)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        *,
        time_extra: Tensor | None = None,
        context: Tensor | None = None,
        context_bias: Tensor | None = None,
    ) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep. Returns (B, out_channels, H, W).

        x: (B, in_channels, H, W); H and W are multiples of patch_size * 2^(levels - 1), and equal
        positions * patch_size where there are positions. timesteps: (B,).
        time_extra: (B, time_dim), added to the time embedding.
        context: as ``keys_values`` makes it. context_bias: (B, 1, 1, L), large and negative at padding.
        """
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.channels[0]).to(x.dtype))
        time = F.silu(embedding if time_extra is None else embedding + time_extra)
        widths = [2 * layer.channels for layer in self._attending()]
        context = x.new_zeros(len(x), 0, sum(widths)) if context is None else context
        contexts = iter(torch.split(context, widths, dim=-1))
        bias = x.new_zeros(len(x), 1, 1, context.shape[1]) if context_bias is None else context_bias
        h = self.conv_in(
            F.pixel_unshuffle(x, self.config.patch_size).contiguous(memory_format=torch.channels_last)
        )
        h = h if self.positions is None else h + self.positions.to(h.dtype)
        skips = [h]
        for level in self.down:
            assert isinstance(level, Level)
            for i in range(len(level.blocks)):
                skips.append(h := level.step(i, h, time, contexts, bias))
            if level.resampler is not None:
                skips.append(h := level.resampler(h, time))
        h = self.mid.blocks[1](self.mid.step(0, h, time, contexts, bias), time)
        for level in self.up:
            assert isinstance(level, Level)
            for i in range(len(level.blocks)):
                h = level.step(i, torch.cat([h, skips.pop()], dim=1), time, contexts, bias)
            h = level.resampler(h, time) if level.resampler is not None else h
        h = self.conv_out(F.silu(self.norm_out(h)))
        coarse = F.pixel_shuffle(h, self.config.patch_size)
        return coarse if self.detail is None else self.detail(x, coarse, time)


def initialise(unet: UNet) -> UNet:
    """Zero the last layer of every residual branch, and the output: training then starts at the identity."""
    last_layers = {ResBlock: "conv2", AddedKVAttention: "out", UNet: "conv_out", Detail: "conv_out"}
    for module in unet.modules():
        if type(module) in last_layers:
            layer = getattr(module, last_layers[type(module)])
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return unet
