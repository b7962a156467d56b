"""Train the upsampler 64 -> 256: convolutions only, on crops of a quarter of the side, its input blurred now and then."""

from __future__ import annotations

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
from services.training.embedder import to_signal
from services.training.export import save_stage
from services.training.holes import draw_keep
from services.training.scenes import compose

SIDE_IN, SIDE, CROP = 64, 256, 64
CONFIG = UpsamplerConfig(
    side_in=SIDE_IN,
    side=SIDE,
    unet=UNetConfig(
        in_channels=6 + MASK_CHANNELS,
        out_channels=3,
        channels=(64, 128),
        layers_per_level=1,
        attention=(False, False),
        mid_attention=False,
        patch_size=4,
        scale_shift=False,
    ),
    diffusion=DiffusionConfig(prediction="sample", sampling=SamplingConfig(sampler="dpm++2m", steps=8)),
)
RECIPE = loop.Recipe(steps=8_000, learning_rate=8e-4, batch=64, warmup=150, ema=0.998)
CROPS = 4  # of each scene
ALL_HIDDEN = 0.7
BLUR_SHARE, BLUR_SIGMA = 0.5, 0.6


def train(folder: Path, recipe: loop.Recipe = RECIPE) -> None:
    """Train and write ``folder/bundle/upsampler``."""
    schedule = make_schedule("cosine")
    torch.manual_seed(4)
    model = Upsampler(CONFIG).to(memory_format=torch.channels_last)
    initialise(model.unet)

    def loss_of(model: nn.Module, step: int) -> Tensor:
        rng = np.random.default_rng((4, step))
        generator = torch.Generator(loop.device()).manual_seed(step)
        x0, low = draw_crops(rng, recipe.batch)
        known = known_channels(x0, draw_keep(rng, recipe.batch, CROP, ALL_HIDDEN))
        t = torch.randint(len(schedule), (recipe.batch,), device=loop.device(), generator=generator)
        noise = torch.randn(x0.shape, device=loop.device(), generator=generator)
        signal, sigma = (level[:, None, None, None] for level in schedule.levels(t))
        with loop.autocast():
            output = model(signal * x0 + sigma * noise, t, low, known)
        error = (output.float() - x0).square().mean((1, 2, 3))
        return (error * x0_weight(schedule, t)).mean()

    ema = loop.Run("upsampler", model, recipe, folder).train(loss_of)
    save_stage(ema, CONFIG, folder / "bundle/upsampler")


def draw_crops(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Crops of scenes and what the base network would have made of them, raised: two of (count, 3, CROP, CROP)."""
    pictures, _ = compose(rng, count // CROPS, SIDE)
    full = to_signal(pictures)
    small = F.interpolate(full, size=(SIDE_IN, SIDE_IN), mode="area")
    if rng.random() < BLUR_SHARE:
        small = gaussian_blur(small, [3, 3], [BLUR_SIGMA, BLUR_SIGMA])
    low = raise_to(small, SIDE)
    crops = []
    for i in range(count):
        y, x = (int(v) * 4 for v in rng.integers(0, (SIDE - CROP) // 4 + 1, 2))
        crops.append(torch.stack([p[i // CROPS, :, y : y + CROP, x : x + CROP] for p in (full, low)]))
    stacked = torch.stack(crops)
    return stacked[:, 0], stacked[:, 1]
