"""Train the upsamplers, 64 -> 256 and 256 -> 1024 px: convolutions only, on crops of scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from services.bundles.weights import best_device
from services.decoder.network import MASK_CHANNELS, Upsampler, UpsamplerConfig, known_channels, raise_to
from services.decoder.unet import initialise
from services.decoder.unet_config import UNetConfig
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.diffusion.pixels import to_signal
from services.diffusion.prediction import x0_weight
from services.training.data.corpus import Corpus
from services.training.data.holes import draw_keep
from services.training.device import autocast, on_device
from services.training.loop import Run, RunConfig
from services.training.recipes.export import save_part
from services.training.recipes.recipe import Recipe

FACTOR = 4  # between the sides of the pictures that an upsampler is given and makes
ALL_HIDDEN = 0.7  # share of the crops with no known pixels
BLUR_SHARE = 0.5  # of the batches, whose pictures at low resolution are blurred
BLUR_SIGMA = (0.4, 1.0)  # the paper blurs with sigma 0.6
# Of a batch: at the last timestep, where only the picture at low resolution is known. Of few steps the first
# makes the picture.
FIRST_STEP = 0.6
NOISE = 0.04  # at most, in a picture at low resolution: about what the network before leaves


@dataclass(frozen=True)
class Upsampling:
    """One upsampler and what it learns from.

    side: of its pictures in px. crop: side of the crops it is trained on. patch, channels, detail: of its
    U-Net. scenes: how many it learns from.
    """

    side: int
    crop: int
    patch: int
    channels: tuple[int, int]
    detail: int
    scenes: int
    run: RunConfig

    @property
    def name(self) -> str:
        """The name of its part of the bundle."""
        return f"upsampler-{self.side}"

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe(self.train, self.run)

    @property
    def config(self) -> UpsamplerConfig:
        """The config of its network."""
        unet = UNetConfig(
            in_channels=6 + MASK_CHANNELS,
            out_channels=3,
            channels=self.channels,
            layers_per_level=1,
            attention=(False, False),
            mid_attention=False,
            patch_size=self.patch,
            scale_shift=False,
            detail=self.detail,
        )
        sampling = SamplingConfig(sampler="dpm++2m", steps=2)
        return UpsamplerConfig(
            side_in=self.side // FACTOR,
            side=self.side,
            unet=unet,
            diffusion=DiffusionConfig(prediction="sample", sampling=sampling),
            residual=True,
        )

    def train(self, folder: Path, config: RunConfig) -> None:
        """Train and write the upsampler's part of ``folder/bundle``."""
        schedule = self.config.diffusion.make_schedule()
        corpus = Corpus(folder, self.scenes, self.side)
        torch.manual_seed(4)
        model = Upsampler(self.config).to(memory_format=torch.channels_last)
        initialise(model.unet)

        def loss_of(model: nn.Module, draw: int) -> Tensor:
            rng = np.random.default_rng((4, draw))
            generator = torch.Generator(best_device()).manual_seed(draw)
            x0, low = self.draw_crops(corpus, rng, config.batch)
            keep = draw_keep(rng, config.batch, self.crop, ALL_HIDDEN).to(x0.device)
            known = known_channels(x0, keep)
            t = torch.randint(len(schedule), (config.batch,), device=x0.device, generator=generator)
            t[: round(FIRST_STEP * config.batch)] = len(schedule) - 1
            noise = torch.randn(x0.shape, device=x0.device, generator=generator)
            signal, sigma = (level[:, None, None, None] for level in schedule.levels(t))
            with autocast():
                output = model(signal * x0 + sigma * noise, t, low, known).float()
            return ((output - x0).square().mean((1, 2, 3)) * x0_weight(schedule, t)).mean()

        ema = Run(self.name, model, config, folder).train(loss_of)
        save_part(ema, self.config, folder / "bundle" / self.name)

    def draw_crops(self, corpus: Corpus, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Crops of scenes, and the same at low resolution, raised: two signals of (count, 3, crop, crop).

        A crop is reduced together with some of what is around it. So its borders are like any other place.
        """
        room = 2 * FACTOR
        wide = self.crop + 2 * room
        places = rng.integers(0, (self.side - wide) // FACTOR + 1, (count, 2)) * FACTOR
        scenes = corpus.draw(rng, count)
        cut = [
            corpus.pictures[i, y : y + wide, x : x + wide] for i, (y, x) in zip(scenes, places, strict=True)
        ]
        full = to_signal(on_device(np.stack(cut)))
        small = _degraded(F.interpolate(full, scale_factor=1 / FACTOR, mode="area"), rng)
        low = raise_to(small, wide)
        inside = (..., slice(room, room + self.crop), slice(room, room + self.crop))
        return full[inside].contiguous(), low[inside].contiguous()


def _degraded(small: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures at low resolution, made a little worse, as the network before would leave them."""
    if rng.random() < BLUR_SHARE:
        small = gaussian_blur(small, [5, 5], [float(rng.uniform(*BLUR_SIGMA))] * 2)
    return small + float(rng.uniform(0, NOISE)) * torch.randn_like(small)


RUN = RunConfig(steps=8_000, learning_rate=8e-4, batch=64, warmup=150, ema=0.998, muon=True)
UPSAMPLERS = (
    Upsampling(256, crop=64, patch=4, channels=(64, 128), detail=16, scenes=3072, run=RUN),
    Upsampling(
        1024,
        crop=128,
        patch=8,
        channels=(64, 128),
        detail=0,
        scenes=128,
        run=replace(RUN, steps=4_000, batch=32, warmup=100),
    ),
)
