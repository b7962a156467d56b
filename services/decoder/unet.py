"""The diffusion U-Net of the decoder and its upsamplers (modified GLIDE, arXiv 2204.06125, section 2.1).

One class at any size. In Karlo's layout it computes what ``diffusers`` calls ``UNet2DConditionModel``
(decoder: added-KV attention, scale-shift time embedding) and ``UNet2DModel`` (upsamplers: no attention,
additive time embedding).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from services.diffusion.timestep_embedding import timestep_embedding

NORM_EPS = 1e-5
MANY_PLACES = 1024  # from which torch's kernel for bfloat16 on a CPU is the faster one
DETAIL_GROUP = 8  # channels normalised together at full resolution: fewer would each lose their brightness


class UNetConfig(BaseModel):
    """The shape of a U-Net; it travels inside the checkpoint.

    in_channels, out_channels: of the picture, before ``patch_size`` folds patches into channels.
    channels: the width of each level. attention: one flag a level.
    context_dim: the width of the context tokens.
    scale_shift: the time embedding scales and shifts (decoder), or is added (upsamplers).
    positions: the picture's side in patches, where each patch's position has a learnt embedding (0: none).
    detail: the width of the layers that refine the prediction at full resolution (0: none).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    layers_per_level: int
    attention: tuple[bool, ...]
    mid_attention: bool
    context_dim: int = 0
    head_dim: int = 64
    groups: int = 32
    patch_size: int = 1
    scale_shift: bool = True
    positions: int = 0
    detail: int = 0

    @model_validator(mode="after")
    def _check(self) -> UNetConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError("attention: one flag a level is needed")
        if (any(self.attention) or self.mid_attention) and not self.context_dim:
            raise ValueError("context_dim: attention needs the width of its context tokens")
        if self.detail % DETAIL_GROUP:
            raise ValueError(f"detail: must be a multiple of {DETAIL_GROUP}")
        return self

    @property
    def time_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 whatever the input's type, as in GLIDE.

    torch's own kernel also computes in float32, and is several times as fast on a CPU, but for few places.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns the same shape and type."""
        if x.shape[2] * x.shape[3] >= MANY_PLACES:
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
        self.time = nn.Linear(config.time_dim, channels_out * (2 if config.scale_shift else 1))
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
        self.heads = channels // config.head_dim
        self.norm = GroupNorm(config.groups, channels, NORM_EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.context_key, self.context_value = (nn.Linear(config.context_dim, channels) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """x: (B, C, H, W); context: (B, L, context_dim); bias: (B, 1, 1, L), added to the context's logits.

        Returns the same shape as x.
        """
        b, c, h, w = x.shape
        positions = self.norm(x).flatten(2).transpose(1, 2)
        key = torch.cat([self.context_key(context), self.key(positions)], dim=1)
        value = torch.cat([self.context_value(context), self.value(positions)], dim=1)
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

    def step(self, index: int, x: Tensor, time: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """Block number ``index`` and its attention, if the level has any."""
        x = self.blocks[index](x, time)
        return self.attentions[index](x, context, bias) if len(self.attentions) else x


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


class UNet(nn.Module):
    """Predicts from a noisy picture, its timestep and its conditioning what the checkpoint's config says."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        folded = config.patch_size**2
        self.time_embed = nn.Sequential(
            nn.Linear(widths[0], config.time_dim), nn.SiLU(), nn.Linear(config.time_dim, config.time_dim)
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
        context: (B, L, context_dim). context_bias: (B, 1, 1, L), large and negative at padding.
        """
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.channels[0]).to(x.dtype))
        time = F.silu(embedding if time_extra is None else embedding + time_extra)
        context = x.new_zeros(len(x), 0, 1) if context is None else context
        bias = x.new_zeros(len(x), 1, 1, context.shape[1]) if context_bias is None else context_bias
        h = self.conv_in(
            F.pixel_unshuffle(x, self.config.patch_size).contiguous(memory_format=torch.channels_last)
        )
        h = h if self.positions is None else h + self.positions.to(h.dtype)
        skips = [h]
        for level in self.down:
            assert isinstance(level, Level)
            for i in range(len(level.blocks)):
                skips.append(h := level.step(i, h, time, context, bias))
            if level.resampler is not None:
                skips.append(h := level.resampler(h, time))
        h = self.mid.blocks[1](self.mid.step(0, h, time, context, bias), time)
        for level in self.up:
            assert isinstance(level, Level)
            for i in range(len(level.blocks)):
                h = level.step(i, torch.cat([h, skips.pop()], dim=1), time, context, bias)
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
