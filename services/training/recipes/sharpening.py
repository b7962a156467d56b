"""Finish the base decoder: crisp at little to middling noise, its guidance distilled in at the noisy end.

The squared error alone leaves blur where the network cannot know, so an adversary pulls at what it makes of
pictures that show something already. At the noisy end it is settled what a picture shows, and realism of
*any* picture would be cheaper than the right one. There it learns what it predicts itself when it is guided
(arXiv 2210.03142), so that a step takes one evaluation instead of two.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from services.bundles.weights import best_device, load_weights
from services.decoder.network import Decoder, DecoderConfig, known_channels
from services.diffusion.config import SamplingConfig
from services.diffusion.pixels import to_signal
from services.diffusion.prediction import x0_weight
from services.diffusion.schedule import TRAIN_STEPS
from services.training.data.corpus import Corpus
from services.training.data.holes import draw_edits
from services.training.device import autocast, fast_attention, on_device
from services.training.loop import Loss, Run, RunConfig
from services.training.recipes.adversary import Adversary
from services.training.recipes.decoder import (
    CONFIG,
    DROP_IMAGE,
    DROP_TEXT,
    SIDE,
    draw_shares,
    object_weights,
)
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, drop_text
from services.training.recipes.export import save_part
from services.training.recipes.grid import save_grid
from services.training.recipes.recipe import Recipe

NAME = "sharpening"
ALL_HIDDEN = 0.65  # share of the batch with no known pixels
SHARPENED = 0.6  # share of the batch that the adversary sees; the rest learns to be guided
GUIDED_FROM = 0.7  # of the schedule
GUIDANCE = 3.0
LEVELS = (60, round(GUIDED_FROM * TRAIN_STEPS))  # timesteps of the pictures that the adversary sees
OWN = 0.5  # share of these that begin from the network's own prediction, as when it samples
OWN_FROM = (LEVELS[1], TRAIN_STEPS)  # timesteps of that prediction
PERCEPTUAL = 0.5  # weight of the distance that CLIP sees
SAMPLING = SamplingConfig(
    sampler="ancestral",
    steps=5,
    guidance=GUIDANCE,
    guidance_interval=(GUIDED_FROM, 1.0),
    distilled_guidance=GUIDANCE,
)
SHARPENED_CONFIG = CONFIG.model_copy(
    update={"diffusion": CONFIG.diffusion.model_copy(update={"sampling": SAMPLING})}
)
Given = tuple[Tensor, ...]  # what a decoder is given beside x and t


def train(folder: Path, config: RunConfig) -> None:
    """Train ``folder/bundle/decoder`` on, and write it there."""
    embedder = Embedder(folder)
    corpus = Corpus(folder, config.scenes)
    part = folder / "bundle/decoder"
    torch.manual_seed(7)
    model = Decoder(SHARPENED_CONFIG).to(memory_format=torch.channels_last)
    teacher = load_teacher(part)

    def sample(ema: nn.Module, step: int) -> None:
        assert isinstance(ema, Decoder)
        save_grid(ema, embedder, folder / "samples" / f"{NAME}-{step:06d}.png")

    load_weights(model, part / "model.safetensors").float().requires_grad_(True)
    run = Run(NAME, model, replace(config, start_from=None), folder)
    loss_of = _loss(corpus, embedder, teacher, config.batch)
    ema = run.train(loss_of, save_every=400.0, sample=sample)
    save_part(ema, SHARPENED_CONFIG, part)


def load_teacher(part: Path) -> Decoder:
    """The decoder of a bundle's part as it is, for its predictions alone."""
    config = DecoderConfig.model_validate_json((part / "config.json").read_text())
    teacher = load_weights(Decoder(config), part / "model.safetensors").float()
    return teacher.to(best_device()).eval().requires_grad_(False)


@torch.no_grad()
def guided_target(teacher: Decoder, x: Tensor, t: Tensor, given: Given, blank: Given) -> Tensor:
    """What the teacher predicts for noisy signals x, (B, 3, side, side), at timesteps t with GUIDANCE.

    given: the known channels, then the condition of each. blank: that of nothing in particular, B = 1.
    """
    known, *condition = given
    without = [part.expand(len(x), *part.shape[1:]) for part in blank]
    sampling = teacher.config.diffusion.sampling
    scales = torch.tensor([sampling.guidance_at(int(step), GUIDANCE) for step in t], device=x.device)
    with autocast():
        conditional = teacher(x, t, known, *condition).float()
        unconditional = teacher(x, t, known, *without).float()
    mixed = unconditional + scales[:, None, None, None] * (conditional - unconditional)
    return teacher.config.diffusion.bounded(mixed)


def _loss(corpus: Corpus, embedder: Embedder, teacher: Decoder, batch_size: int) -> Loss:
    """The error of all rows, and what the adversary says of those with less noise."""
    schedule = CONFIG.diffusion.make_schedule()
    embedded = EmbeddedCorpus(corpus, embedder)
    blank = embedder.text([""])
    nothing = (teacher.conditioning.null_image[None], *blank)
    shares = draw_shares(corpus.scenes)
    adversary = Adversary(enlarge=2, condition=CONFIG.conditioning.embedding_dim)
    sharpened = round(SHARPENED * batch_size)
    own = round(OWN * sharpened)

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        assert isinstance(model, Decoder)
        rng = np.random.default_rng((7, draw))
        generator = torch.Generator(best_device()).manual_seed(draw)
        batch = corpus.draw(rng, batch_size, shares)
        drawn = [corpus.scenes[i] for i in batch]
        pictures, keep, scenes = draw_edits(rng, corpus.pictures[batch], drawn, ALL_HIDDEN)
        x0 = to_signal(on_device(pictures))
        right = embedded.image(batch)
        dropped = on_device(rng.random(batch_size) < DROP_IMAGE)[:, None]
        image = torch.where(dropped, model.conditioning.null_image, right)
        text = drop_text(embedded.text(batch), blank, DROP_TEXT, rng)
        given = (known_channels(x0, keep), image, *text)

        def timesteps(low: int, high: int, count: int) -> Tensor:
            return torch.randint(low, high, (count,), device=x0.device, generator=generator)

        def noised(signal: Tensor, t: Tensor) -> Tensor:
            level, sigma = (part[:, None, None, None] for part in schedule.levels(t))
            noise = torch.randn(signal.shape, device=signal.device, generator=generator)
            return level * signal + sigma * noise

        def predicted(x: Tensor, t: Tensor, rows: slice) -> Tensor:
            with autocast(), fast_attention():
                output: Tensor = model(x, t, *(part[rows] for part in given)).float()
            return output

        begun = x0.clone()
        with torch.no_grad():
            t = timesteps(*OWN_FROM, own)
            begun[:own] = predicted(noised(x0[:own], t), t, slice(own)).clamp(-1, 1)
        t = torch.cat([timesteps(*LEVELS, sharpened), timesteps(*OWN_FROM, batch_size - sharpened)])
        x = noised(begun, t)
        rest = slice(sharpened, None)
        guided = guided_target(teacher, x[rest], t[rest], tuple(part[rest] for part in given), nothing)
        output = predicted(x, t, slice(None))
        target = torch.cat([x0[:sharpened], guided])
        error = ((output - target).square().mean(1) * object_weights(scenes, SIDE)).mean((1, 2))
        squared = (error * x0_weight(schedule, t)).mean()
        perceptual = embedder.perceptual_distance(output[:sharpened], x0[:sharpened], rng)
        return adversary.balanced(squared + PERCEPTUAL * perceptual, output, x0, right, sharpened)

    return loss_of


RECIPE = Recipe(
    train,
    RunConfig(steps=4_000, learning_rate=5e-5, batch=32, warmup=50, ema=0.995),
    needs=("clip", "decoder"),
)
