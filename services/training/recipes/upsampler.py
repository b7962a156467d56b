"""Train the upsamplers, 64 -> 256 and 256 -> 1024: convolutions only, on crops, their input degraded now and then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from services.decoder.network import MASK_CHANNELS, Upsampler, UpsamplerConfig, known_channels, raise_to
from services.decoder.unet import UNetConfig, initialise
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.diffusion.prediction import x0_weight
from services.diffusion.schedule import make_schedule
from services.training import loop
from services.training.data.corpus import Corpus
from services.training.data.holes import draw_keep
from services.training.recipes.embedder import to_signal
from services.training.recipes.export import save_stage

FACTOR = 4
ALL_HIDDEN = 0.7  # share of the crops with no known pixels
BLUR_SHARE, BLUR_SIGMA = 0.5, (0.4, 1.0)  # the paper blurs with sigma 0.6
NOISE = 0.04  # at most, of the low-resolution picture: what the network before leaves


@dataclass(frozen=True)
class Stage:
    """One upsampler's shape and training: the side of its pictures and of its crops, patch, channels and width of the detail,
    scenes it learns from."""

    side: int
    crop: int
    patch: int
    channels: tuple[int, int]
    detail: int
    scenes: int
    recipe: loop.Recipe

    @property
    def name(self) -> str:
        """Of its part of the bundle."""
        return f"upsampler-{self.side}"

    @property
    def config(self) -> UpsamplerConfig:
        """Its network."""
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

    def train(self, folder: Path, recipe: loop.Recipe) -> None:
        """Train and write the upsampler's part of ``folder/bundle``."""
        schedule, corpus = make_schedule("cosine"), Corpus(folder, self.scenes, self.side)
        torch.manual_seed(4)
        model = Upsampler(self.config).to(memory_format=torch.channels_last)
        initialise(model.unet)

        def loss_of(model: nn.Module, step: int) -> Tensor:
            rng = np.random.default_rng((4, step))
            generator = torch.Generator(loop.device()).manual_seed(step)
            x0, low = self.draw_crops(corpus, rng, recipe.batch)
            known = known_channels(x0, draw_keep(rng, recipe.batch, self.crop, ALL_HIDDEN))
            t = torch.randint(len(schedule), (recipe.batch,), device=loop.device(), generator=generator)
            noise = torch.randn(x0.shape, device=loop.device(), generator=generator)
            signal, sigma = (level[:, None, None, None] for level in schedule.levels(t))
            with loop.autocast():
                output = model(signal * x0 + sigma * noise, t, low, known)
            error = (output.float() - x0).square().mean((1, 2, 3))
            return (error * x0_weight(schedule, t)).mean()

        ema = loop.Run(self.name, model, recipe, folder).train(loss_of)
        save_stage(ema, self.config, folder / "bundle" / self.name)

    def draw_crops(self, corpus: Corpus, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Crops of scenes, and what the network before would have made of them, raised: two of (count, 3, crop, crop).

        Crops are reduced with some of what is around them, so that their borders are like any other place.
        """
        room = 2 * FACTOR
        wide = self.crop + 2 * room
        places = rng.integers(0, (self.side - wide) // FACTOR + 1, (count, 2)) * FACTOR
        scenes = corpus.draw(rng, count)
        cut = [
            corpus.pictures[i, y : y + wide, x : x + wide] for i, (y, x) in zip(scenes, places, strict=True)
        ]
        full = to_signal(np.stack(cut))
        low = raise_to(self._degraded(F.interpolate(full, scale_factor=1 / FACTOR, mode="area"), rng), wide)
        inside = (..., slice(room, room + self.crop), slice(room, room + self.crop))
        return full[inside].contiguous(), low[inside].contiguous()

    def _degraded(self, small: Tensor, rng: np.random.Generator) -> Tensor:
        if rng.random() < BLUR_SHARE:
            small = gaussian_blur(small, [5, 5], [float(rng.uniform(*BLUR_SIGMA))] * 2)
        return small + float(rng.uniform(0, NOISE)) * torch.randn_like(small)


RECIPE = loop.Recipe(8_000, 8e-4, 64, warmup=150, ema=0.998, muon=True)
STAGES = (
    Stage(256, crop=64, patch=4, channels=(64, 128), detail=16, scenes=3072, recipe=RECIPE),
    Stage(
        1024,
        crop=128,
        patch=8,
        channels=(64, 128),
        detail=0,
        scenes=128,
        recipe=replace(RECIPE, steps=4_000, batch=32, warmup=100),
    ),
)
