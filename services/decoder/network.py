"""The two networks of the decoder stage, each described by one config: the base decoder and the upsampler."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from services.decoder.autoencoder import AutoencoderConfig
from services.decoder.conditioning import ConditioningConfig, ImageConditioningConfig, conditioning_of
from services.decoder.unet import UNet
from services.decoder.unet_config import UNetConfig
from services.diffusion.config import DiffusionConfig

MASK_CHANNELS = 4  # the known picture's RGB and the mask
Imposing = Literal["x0", "noised"]


class DecoderConfig(BaseModel):
    """The base decoder.

    side: of its pictures in px. sides: more that it can draw. multiple: of which each side of a picture that
    is not square is one; 0: it draws squares only. inpainting: it has mask channels. imposing: how known
    places are kept: put into each step's clean sample, or noised and put into the sample itself.
    autoencoder: of one that works on latents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int
    sides: tuple[int, ...] = ()
    multiple: int = 0
    unet: UNetConfig
    conditioning: ConditioningConfig | ImageConditioningConfig
    diffusion: DiffusionConfig
    inpainting: bool = True
    imposing: Imposing = "x0"
    autoencoder: AutoencoderConfig | None = None

    @property
    def native(self) -> tuple[int, ...]:
        """Sides of the pictures that it draws itself, in px, smallest first."""
        return tuple(sorted({self.side, *self.sides}))

    def draws(self, height: int, width: int) -> bool:
        """Whether it draws pictures of this shape, which is no square."""
        sides = (height, width)
        if not self.multiple or any(side % self.multiple or side < self.native[0] for side in sides):
            return False
        return height * width <= self.native[-1] ** 2


class UpsamplerConfig(BaseModel):
    """An upsampler, whose U-Net has neither attention nor text.

    side_in, side: of the pictures it is given and makes, in px. inpainting: it has mask channels.
    residual: the U-Net's output is added to the raised picture, so it learns only what is missing in that.
    last: the part of the bundle whose network of the same shape takes the last step; empty: there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_in: int
    side: int
    unet: UNetConfig
    diffusion: DiffusionConfig
    inpainting: bool = True
    residual: bool = False
    last: str = Field(default="", pattern=r"^(last-\d+)?$")


class Decoder(nn.Module):
    """The base decoder's U-Net and conditioning."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.unet)
        self.conditioning = conditioning_of(
            config.conditioning, config.unet.time_dim, config.unet.context_dim
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        known: Tensor | None,
        image: Tensor,
        text: Tensor,
        states: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep.

        x: (B, C, h, w). known: (B, C + 1, h, w), as ``known_channels`` makes it. The rest is as in
        ``Conditioning``. Returns the U-Net's output.
        """
        return self.denoise(x, timesteps, known, *self.project(image, text, states, mask))

    def project(
        self, image: Tensor, text: Tensor, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the U-Net takes of the conditioning in every step: (time_extra, context, context_bias)."""
        time_extra, context, bias = self.conditioning(image, text, states, mask)
        return time_extra, self.unet.keys_values(context), bias

    def denoise(
        self,
        x: Tensor,
        timesteps: Tensor,
        known: Tensor | None,
        time_extra: Tensor,
        context: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """The same from conditioning that was projected before."""
        inputs = x if known is None else torch.cat([x, known.to(x.dtype)], dim=1)
        output: Tensor = self.unet(
            inputs, timesteps, time_extra=time_extra, context=context, context_bias=bias
        )
        return output


class Upsampler(nn.Module):
    """Raises a picture's resolution by diffusion, conditioned on the picture at low resolution."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.unet)

    def forward(self, x: Tensor, timesteps: Tensor, low: Tensor, known: Tensor | None) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep.

        x: (B, 3, H, W). low: (B, 3, H, W), raised to x's size by ``raise_to``. known: (B, 4, H, W), as
        ``known_channels`` makes it. Returns what the config's prediction says.
        """
        inputs = [x, low.to(x.dtype)] + ([] if known is None else [known.to(x.dtype)])
        output: Tensor = self.unet(torch.cat(inputs, dim=1), timesteps)
        return output + low.to(output.dtype) if self.config.residual else output


def raise_to(low: Tensor, side: int) -> Tensor:
    """(B, 3, h, w) in [-1, 1], resized to (B, 3, side, side).

    The resize is antialiased and bicubic, as for Karlo's upsamplers.
    """
    return F.interpolate(
        low.float().clamp(-1, 1), size=(side, side), mode="bicubic", align_corners=False, antialias=True
    )


def known_channels(picture: Tensor, keep: Tensor) -> Tensor:
    """The mask channels (B, C + 1, H, W): the picture where it is known, else 0, and what is known.

    picture: (B, C, H, W). keep: (B, 1, H, W), 1 where the picture is known.
    """
    return torch.cat([picture * keep, keep], dim=1)
