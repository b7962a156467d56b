"""The diffusion U-Net of the decoder and its upsamplers (modified GLIDE, arXiv 2204.06125, section 2.1).

One class at any size. In Karlo's layout it computes what ``diffusers`` calls ``UNet2DConditionModel`` (decoder: added-KV
attention, scale-shift time embedding) and ``UNet2DModel`` (upsamplers: no attention, additive time embedding).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from services.diffusion.timestep_embedding import timestep_embedding

NORM_EPS = 1e-5
DETAIL_GROUP = 8  # channels normalised together at full resolution: fewer would each lose their brightness


class UNetConfig(BaseModel):
    """The shape of a U-Net; it travels inside the checkpoint.

    in_channels and out_channels count image channels before ``patch_size`` folds patches into channels;
    attention has one flag a level, plus ``mid_attention``; context_dim is the width of the context tokens;
    scale_shift: the time embedding scales and shifts (decoder) or is added (upsamplers);
    positions: the picture's side in patches, where a learnt embedding of each patch's position is added (0: none);
    detail: the width of the layers that refine at full resolution what was predicted in patches (0: none).
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
    """Group normalisation in float32 whatever the input's type, as in GLIDE (and twice as fast on a CPU in bfloat16)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns the same shape and type."""
        normalised = F.group_norm(
            x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps
        )
        return normalised.to(x.dtype)


class ResBlock(nn.Module):
    """Two convolutions with the time embedding between them; optionally resamples first ("down" or "up")."""

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int, resample: str = "") -> None:
        super().__init__()
        self.resample, self.scale_shift = resample, config.scale_shift
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
    """Self-attention over positions whose keys and values are led by the projected context tokens (GLIDE)."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_dim
        self.norm = GroupNorm(config.groups, channels, NORM_EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.context_key, self.context_value = (nn.Linear(config.context_dim, channels) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """x: (B, C, H, W); context: (B, L, context_dim); bias: (B, 1, 1, L), added to the context's logits."""
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


class Stage(nn.Module):
    """The blocks of one level: residual blocks, each with attention or without, then an optional resampling block."""

    def __init__(
        self, blocks: list[ResBlock], attentions: list[AddedKVAttention], resampler: ResBlock | None
    ) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.resampler = resampler

    def step(self, index: int, x: Tensor, time: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """Block number ``index`` and its attention, if the level has any."""
        x = self.blocks[index](x, time)
        return self.attentions[index](x, context, bias) if len(self.attentions) else x


class Detail(nn.Module):
    """Refines at full resolution what was predicted in patches: edges and texture go on from one patch to the next."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        config, width = config.model_copy(update={"groups": config.detail // DETAIL_GROUP}), config.detail
        self.conv_in = nn.Conv2d(config.in_channels + config.out_channels, width, 3, padding=1)
        self.block = ResBlock(config, width, width)
        self.norm_out = GroupNorm(config.groups, width, NORM_EPS)
        self.conv_out = nn.Conv2d(width, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, coarse: Tensor, time: Tensor) -> Tensor:
        """x: the network's input (B, in_channels, H, W); coarse: its output (B, out_channels, H, W); time: as a ResBlock's."""
        h = self.conv_in(torch.cat([x, coarse], dim=1).contiguous(memory_format=torch.channels_last))
        refined: Tensor = coarse + self.conv_out(F.silu(self.norm_out(self.block(h, time))))
        return refined


class UNet(nn.Module):
    """Predicts from a noisy picture, its timestep and its conditioning; what it predicts, the checkpoint says."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        folded, widths = config.patch_size**2, config.channels
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
        config, stages = self.config, nn.ModuleList()
        width, skips = config.channels[0], [config.channels[0]]
        for level, out in enumerate(config.channels):
            blocks = [ResBlock(config, width if i == 0 else out, out) for i in range(config.layers_per_level)]
            last = level == len(config.channels) - 1
            stages.append(
                Stage(
                    blocks,
                    self._attentions(level, len(blocks)),
                    None if last else ResBlock(config, out, out, "down"),
                )
            )
            skips += [out] * (len(blocks) + (not last))
            width = out
        return stages, skips

    def _build_mid(self, width: int) -> Stage:
        attention = [AddedKVAttention(self.config, width)] if self.config.mid_attention else []
        return Stage([ResBlock(self.config, width, width) for _ in range(2)], attention, None)

    def _build_up(self, skips: list[int]) -> nn.ModuleList:
        config, stages, width = self.config, nn.ModuleList(), self.config.channels[-1]
        for level, out in reversed(list(enumerate(config.channels))):
            blocks = []
            for _ in range(config.layers_per_level + 1):
                blocks.append(ResBlock(config, width + skips.pop(), out))
                width = out
            stages.append(
                Stage(
                    blocks,
                    self._attentions(level, len(blocks)),
                    ResBlock(config, out, out, "up") if level else None,
                )
            )
        return stages

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        *,
        time_extra: Tensor | None = None,
        context: Tensor | None = None,
        context_bias: Tensor | None = None,
    ) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep.

        x: (B, in_channels, H, W), H and W multiples of patch_size * 2^(levels - 1), and with positions
        positions * patch_size; timesteps: (B,);
        time_extra: (B, time_dim), added to the time embedding; context: (B, L, context_dim) with context_bias
        (B, 1, 1, L), large and negative at padding. Returns (B, out_channels, H, W).
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
        for stage in self.down:
            assert isinstance(stage, Stage)
            for i in range(len(stage.blocks)):
                skips.append(h := stage.step(i, h, time, context, bias))
            if stage.resampler is not None:
                skips.append(h := stage.resampler(h, time))
        h = self.mid.blocks[1](self.mid.step(0, h, time, context, bias), time)
        for stage in self.up:
            assert isinstance(stage, Stage)
            for i in range(len(stage.blocks)):
                h = stage.step(i, torch.cat([h, skips.pop()], dim=1), time, context, bias)
            h = stage.resampler(h, time) if stage.resampler is not None else h
        h = self.conv_out(F.silu(self.norm_out(h)))
        coarse = F.pixel_shuffle(h, self.config.patch_size)
        return coarse if self.detail is None else self.detail(x, coarse, time)


def initialise(unet: UNet) -> UNet:
    """Start training at the identity: the last layer of every residual branch, and the output, begin at zero."""
    for module in unet.modules():
        last = {ResBlock: "conv2", AddedKVAttention: "out", UNet: "conv_out", Detail: "conv_out"}.get(
            type(module)
        )
        if last:
            layer = getattr(module, last)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return unet
