"""The autoencoder of decoders that work on latents: pictures to latents and back, 8 times smaller each way.

It computes what ``diffusers`` calls ``VQModel`` (Kandinsky's MoVQ, arXiv 2209.09002, whose decoder is
normalised by the latents; latents are not rounded to its codebook) and ``AutoencoderKL`` (of which the mean
is taken).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

EPSILON = 1e-6
MakeNorm = Callable[[int], nn.Module]


class AutoencoderConfig(BaseModel):
    """The shape of an autoencoder.

    channels: the width of each level, the finest first; each level but the last halves the sides. attention:
    one flag a level. spatial: the decoder's norms are conditioned on the latents. moments: the encoder gives
    a mean and a log variance. scale: latents are the encoder's output times this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, ...]
    layers_per_level: int
    attention: tuple[bool, ...]
    latent_channels: int = 4
    groups: int = 32
    spatial: bool = False
    moments: bool = False
    scale: float = 1.0

    @model_validator(mode="after")
    def _check(self) -> AutoencoderConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError("attention: one flag a level is needed")
        return self

    @property
    def factor(self) -> int:
        """How many px a side of a latent's place has."""
        return 2 ** (len(self.channels) - 1)


class SpatialNorm(nn.Module):
    """Group normalisation whose scale and shift come from the latents (MoVQ, section 3.2)."""

    def __init__(self, config: AutoencoderConfig, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, channels, EPSILON)
        self.scale = nn.Conv2d(config.latent_channels, channels, 1)
        self.shift = nn.Conv2d(config.latent_channels, channels, 1)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """x: (B, C, H, W); latents: (B, L, h, w). Returns x's shape."""
        # Scale and shift depend on a place's latent alone: they are computed at its size, and raised.
        normalised: Tensor = self.norm(x)
        normalised = normalised * F.interpolate(self.scale(latents), size=x.shape[-2:], mode="nearest")
        return normalised + F.interpolate(self.shift(latents), size=x.shape[-2:], mode="nearest")


class PlainNorm(nn.GroupNorm):
    """Group normalisation that pays no attention to the latents."""

    def __init__(self, config: AutoencoderConfig, channels: int) -> None:
        super().__init__(config.groups, channels, EPSILON)

    def forward(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """x: (B, C, H, W); returns its shape."""
        del latents
        return super().forward(x)


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, norm: MakeNorm, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, latents: Tensor | None) -> Tensor:
        """x: (B, C_in, H, W). Returns (B, C_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x, latents)))
        h = self.conv2(F.silu(self.norm2(h, latents)))
        result: Tensor = self.skip(x) + h
        return result


class Attention(nn.Module):
    """Self-attention of one head over all places."""

    def __init__(self, norm: MakeNorm, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, latents: Tensor | None) -> Tensor:
        """x: (B, C, H, W); returns its shape."""
        h = self.norm(x, latents).flatten(2).transpose(1, 2)
        query, key, value = (project(h)[:, None] for project in (self.query, self.key, self.value))
        attended = self.out(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return x + attended.transpose(1, 2).reshape(x.shape)


class Level(nn.Module):
    """One level's blocks, each with attention or without, then an optional resampling convolution."""

    def __init__(self, blocks: list[Block], attentions: list[Attention], resampler: nn.Conv2d | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resampler = resampler

    def forward(self, x: Tensor, latents: Tensor | None) -> Tensor:
        """All but the resampling."""
        for i, block in enumerate(self.blocks):
            x = block(x, latents)
            if i < len(self.attentions):
                x = self.attentions[i](x, latents)
        return x


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) to what latents are made of."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.channels
        norm = _norms(config, PlainNorm)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        width = widths[0]
        for i, out in enumerate(widths):
            blocks = [Block(norm, out if j else width, out) for j in range(config.layers_per_level)]
            attentions = [Attention(norm, out) for _ in blocks] if config.attention[i] else []
            last = i == len(widths) - 1
            self.levels.append(Level(blocks, attentions, None if last else nn.Conv2d(out, out, 3, stride=2)))
            width = out
        self.mid = _middle(norm, width)
        self.norm_out = norm(width)
        self.conv_out = nn.Conv2d(width, config.latent_channels * (2 if config.moments else 1), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H / factor, W / factor)."""
        x = self.conv_in(x)
        for level in self.levels:
            assert isinstance(level, Level)
            x = level(x, None)
            if level.resampler is not None:
                x = level.resampler(F.pad(x, (0, 1, 0, 1)))
        encoded: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x, None))))
        return encoded


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.channels
        norm = _norms(config, SpatialNorm if config.spatial else PlainNorm)
        width = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = _middle(norm, width)
        self.levels = nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            blocks = [Block(norm, out if j else width, out) for j in range(config.layers_per_level + 1)]
            attentions = [Attention(norm, out) for _ in blocks] if config.attention[i] else []
            self.levels.append(Level(blocks, attentions, nn.Conv2d(out, out, 3, padding=1) if i else None))
            width = out
        self.norm_out = norm(width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """x: (B, L, h, w), made of the latents. Returns (B, 3, factor h, factor w)."""
        x = self.mid(self.conv_in(x), latents)
        for level in self.levels:
            assert isinstance(level, Level)
            x = level(x, latents)
            if level.resampler is not None:
                x = level.resampler(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        picture: Tensor = self.conv_out(F.silu(self.norm_out(x, latents)))
        return picture


class Autoencoder(nn.Module):
    """Pictures in [-1, 1] to latents, and latents to pictures."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        latent = config.latent_channels
        encoded = latent * (2 if config.moments else 1)
        self.encoder = Encoder(config)
        self.after_encoder = nn.Conv2d(encoded, encoded, 1)
        self.before_decoder = nn.Conv2d(latent, latent, 1)
        self.decoder = Decoder(config)
        self.preview = nn.Conv2d(latent, 3, 1)  # (B, L, h, w) to (B, 3, h, w), about the picture's colours

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of the factor, to (B, L, H / factor, W / factor)."""
        encoded = self.after_encoder(self.encoder(pictures))
        return self.config.scale * encoded[:, : self.config.latent_channels]

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse, about."""
        latents = latents / self.config.scale
        picture: Tensor = self.decoder(self.before_decoder(latents), latents)
        return picture


def _norms(config: AutoencoderConfig, kind: type[SpatialNorm] | type[PlainNorm]) -> MakeNorm:
    return lambda channels: kind(config, channels)


def _middle(norm: MakeNorm, width: int) -> Level:
    return Level([Block(norm, width, width) for _ in range(2)], [Attention(norm, width)], None)
