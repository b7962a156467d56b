"""What the base network denoises: pixels, or an autoencoder's latents. Both speak pictures in [-1, 1]."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.weights import load_network
from services.decoder.autoencoder import Autoencoder, AutoencoderConfig

AUTOENCODER = "autoencoder"  # the part of a bundle
KEPT = 1 - 1e-6  # a place is known if all of its pixels are, rounding aside
# Places whose being painted makes a place next to them painted too: their latents have seen the hole. These
# six, and not all eight, are those of ``prepare_mask`` in Kandinsky's own pipeline.
AROUND = ((0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1))


class Space(Protocol):
    """channels: of a sample. factor: how many px a side of a sample's place has."""

    channels: int
    factor: int

    def encode(self, picture: Tensor) -> Tensor:
        """(3, S, S) to (channels, S / factor, S / factor)."""

    def known(self, keep: Tensor) -> Tensor:
        """Of the pixels that are known, (1, S, S), the places that are: (1, S / factor, S / factor)."""

    def decode(self, sample: Tensor) -> Tensor:
        """The inverse of ``encode``, within [-1, 1]."""

    def preview(self, sample: Tensor) -> Tensor:
        """(3, h, w) that looks like the picture, at next to no cost."""


class PixelSpace:
    """Pixels as they are."""

    channels = 3
    factor = 1

    def encode(self, picture: Tensor) -> Tensor:
        """The picture."""
        return picture

    def known(self, keep: Tensor) -> Tensor:
        """What is known."""
        return keep

    def decode(self, sample: Tensor) -> Tensor:
        """The picture."""
        return sample.clamp(-1, 1)

    def preview(self, sample: Tensor) -> Tensor:
        """The picture."""
        return sample


class LatentSpace:
    """An autoencoder's latents."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.channels = autoencoder.config.latent_channels
        self.factor = autoencoder.config.factor
        self._autoencoder = autoencoder
        self._dtype = next(autoencoder.parameters()).dtype

    def encode(self, picture: Tensor) -> Tensor:
        """One call of the encoder."""
        return self._autoencoder.encode(picture[None].to(self._dtype))[0].float()

    def known(self, keep: Tensor) -> Tensor:
        """Places all of whose pixels are known, and those of most of their neighbours."""
        places = F.avg_pool2d(keep[None], self.factor)[0].ge(KEPT)
        wide = F.pad(places, (1, 1, 1, 1), value=True)
        height, width = places.shape[1:]
        shifted = [wide[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND]
        return torch.stack([places, *shifted]).all(0).to(keep.dtype)

    def decode(self, sample: Tensor) -> Tensor:
        """One call of the decoder."""
        return self._autoencoder.decode(sample[None].to(self._dtype))[0].float().clamp(-1, 1)

    def preview(self, sample: Tensor) -> Tensor:
        """A linear map of each place."""
        return self._autoencoder.preview(sample[None].to(self._dtype))[0].float().clamp(-1, 1)


def load_space(config: AutoencoderConfig | None, bundle: Bundle, device: torch.device) -> Space:
    """The space of a base network. config: of its autoencoder, if it has one."""
    if config is None:
        return PixelSpace()
    return LatentSpace(load_network(lambda: Autoencoder(config), bundle.weights(AUTOENCODER), device))
