"""Distil guidance into the base decoder: a guided step then takes one evaluation instead of two.

Where it is guided, it learns to predict at once what it predicted with and without its condition, mixed
(arXiv 2210.03142). It goes on learning from scenes meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from services.bundles.weights import best_device, load_weights
from services.decoder.network import Decoder, DecoderConfig
from services.diffusion.config import SamplingConfig
from services.diffusion.schedule import TRAIN_STEPS
from services.training.data.corpus import Corpus
from services.training.device import autocast, fast_attention
from services.training.loop import Loss, Run, RunConfig
from services.training.recipes.decoder import (
    CONFIG,
    PERCEPTUAL,
    SAVE_SECONDS,
    Batches,
    Given,
    noisy_timesteps,
)
from services.training.recipes.embedder import Embedder
from services.training.recipes.export import save_part
from services.training.recipes.grid import save_grid
from services.training.recipes.recipe import Recipe

NAME = "guidance"
SAMPLING = CONFIG.diffusion.sampling
GUIDANCE = SAMPLING.guidance
GUIDED_FROM = SAMPLING.guidance_interval[0] * (TRAIN_STEPS - 1)  # timestep
DISTILLED: SamplingConfig = SAMPLING.model_copy(update={"distilled_guidance": GUIDANCE})
DISTILLED_CONFIG: DecoderConfig = CONFIG.model_copy(
    update={"diffusion": CONFIG.diffusion.model_copy(update={"sampling": DISTILLED})}
)
UNGUIDED = 0.25  # share of a batch below GUIDED_FROM, which is as much as ``noisy_timesteps`` has there
# How much of the way from the prediction of the decoder as it was to the scene itself a target goes. What it
# was is soon learnt; scenes go on teaching, with noise.
LEARNT = 0.5


def train(folder: Path, config: RunConfig) -> None:
    """Train ``folder/bundle/decoder`` on, and write it in its place."""
    embedder = Embedder(folder / "bundle")
    batches = Batches(Corpus(folder, config.scenes), embedder, config.batch)
    part = folder / "bundle/decoder"
    torch.manual_seed(7)
    model = Decoder(DISTILLED_CONFIG).to(memory_format=torch.channels_last)
    load_weights(model, part / "model.safetensors").float().requires_grad_(True)
    teacher = load_teacher(part)
    if config.compiled:
        teacher.compile()

    def sample(ema: nn.Module, step: int) -> None:
        assert isinstance(ema, Decoder)
        save_grid(ema, embedder, folder / "samples" / f"{NAME}-{step:06d}.png")

    run = Run(NAME, model, replace(config, start_from=None), folder)
    ema = run.train(_loss(batches, embedder, teacher), save_every=SAVE_SECONDS, sample=sample)
    save_part(ema, DISTILLED_CONFIG, part)


def load_teacher(part: Path) -> Decoder:
    """The decoder of a bundle's part as it is, for its predictions alone."""
    config = DecoderConfig.model_validate_json((part / "config.json").read_text())
    model = Decoder(config).to(memory_format=torch.channels_last)
    teacher = load_weights(model, part / "model.safetensors").float()
    return teacher.to(best_device()).eval().requires_grad_(False)


@torch.no_grad()
def predictions(
    teacher: Decoder, x: Tensor, t: Tensor, given: Given, nothing: Given
) -> tuple[Tensor, Tensor]:
    """What the teacher predicts for x, (B, 3, side, side), at timesteps t: guided, and as it is.

    given: the known channels, then the condition of each. nothing: that of no picture in particular, B = 1.
    """
    known, *condition = given
    without = [part.expand(len(x), *part.shape[1:]) for part in nothing]
    sampling = teacher.config.diffusion.sampling
    scales = torch.tensor([sampling.guidance_at(int(step), GUIDANCE) for step in t], device=x.device)
    with autocast():
        conditional = teacher(x, t, known, *condition).float()
        unconditional = teacher(x, t, known, *without).float()
    guided = unconditional + scales[:, None, None, None] * (conditional - unconditional)
    return teacher.config.diffusion.bounded(guided), conditional


def timesteps(count: int, unguided: int, generator: torch.Generator) -> Tensor:
    """Timesteps as ``noisy_timesteps`` has them, (count,), those without guidance first."""
    u = torch.rand(count, device=best_device(), generator=generator)
    u[:unguided] *= UNGUIDED
    u[unguided:] = UNGUIDED + (1 - UNGUIDED) * u[unguided:]
    return noisy_timesteps(u)


def _loss(batches: Batches, embedder: Embedder, teacher: Decoder) -> Loss:
    """The error of all rows; of those that are guided, that of what the teacher predicts with guidance."""
    unguided = round(UNGUIDED * batches.count)
    rest = slice(unguided, None)
    nothing = (teacher.conditioning.null_image[None], *batches.blank)

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        assert isinstance(model, Decoder)
        rng = np.random.default_rng((7, draw))
        generator = torch.Generator(best_device()).manual_seed(draw)
        batch = batches.draw(model, rng)
        t = timesteps(batches.count, unguided, generator)
        x = batch.noised(t, generator)
        given = tuple(part[rest].detach() for part in batch.given)
        guided, was = predictions(teacher, x[rest], t[rest], given, nothing)
        target = batch.x0.clone()
        target[rest] = guided + LEARNT * (batch.x0[rest] - was)
        with autocast(), fast_attention():
            output = model(x, t, *batch.given).float()
            perceptual = embedder.perceptual_distance(output[:unguided], batch.x0[:unguided], rng)
            return batch.error(output, target, t) + PERCEPTUAL * perceptual

    return loss_of


RECIPE = Recipe(
    train,
    RunConfig(steps=1_500, learning_rate=5e-4, batch=64, warmup=50, ema=0.995, muon=True),
    needs=("clip", "decoder"),
)
