"""Finish the base decoder: crisp at little to middling noise, its guidance distilled in at the noisy end.

The squared error alone leaves blur where the network cannot know, so an adversary pulls at what it makes of
pictures that show something already. At the noisy end it is settled what a picture shows, and realism of
*any* picture would be cheaper than the right one. There it learns what it predicts itself when it is guided
(arXiv 2210.03142), so that a step takes one evaluation instead of two.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from services.training.data.scenes import Scene
from services.training.device import autocast, fast_attention, on_device
from services.training.loop import Run, RunConfig
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
GUIDED = (round(GUIDED_FROM * TRAIN_STEPS), TRAIN_STEPS)  # timesteps
LEVELS = (60, GUIDED[0])  # timesteps of the pictures that the adversary sees
OWN = 0.5  # share of these that begin from its own prediction at the noisy end, as when it samples
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
    objective = Objective(corpus, embedder, teacher, config.batch)
    ema = run.train(objective, save_every=400.0, sample=sample)
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


class Objective:
    """The error of all rows of a batch, and what the adversary says of those with less noise."""

    def __init__(self, corpus: Corpus, embedder: Embedder, teacher: Decoder, batch_size: int) -> None:
        self._corpus = corpus
        self._embedder = embedder
        self._teacher = teacher
        self._count = batch_size
        self._sharpened = round(SHARPENED * batch_size)
        self._embedded = EmbeddedCorpus(corpus, embedder)
        self._blank = embedder.text([""])
        self._shares = draw_shares(corpus.scenes)
        self._schedule = CONFIG.diffusion.make_schedule()
        self._adversary = Adversary(enlarge=2, condition=CONFIG.conditioning.embedding_dim)

    def __call__(self, model: nn.Module, draw: int) -> Tensor:
        """The loss of the batch with this number."""
        assert isinstance(model, Decoder)
        rng = np.random.default_rng((7, draw))
        generator = torch.Generator(best_device()).manual_seed(draw)
        x0, scenes, right, given = self._batch(model, rng)
        seen = slice(self._sharpened)
        rest = slice(self._sharpened, None)
        t = torch.cat(
            [
                _timesteps(*LEVELS, self._sharpened, generator),
                _timesteps(*GUIDED, self._count - self._sharpened, generator),
            ]
        )
        x = self._noised(self._begun(model, x0, given, generator), t, generator)
        nothing = (self._teacher.conditioning.null_image[None], *self._blank)
        guided = guided_target(self._teacher, x[rest], t[rest], _rows(given, rest), nothing)
        output = _predicted(model, x, t, given)
        target = torch.cat([x0[seen], guided])
        error = ((output - target).square().mean(1) * object_weights(scenes, SIDE)).mean((1, 2))
        squared = (error * x0_weight(self._schedule, t)).mean()
        perceptual = self._embedder.perceptual_distance(output[seen], x0[seen], rng)
        loss = squared + PERCEPTUAL * perceptual
        return self._adversary.balanced(loss, output, x0, right, self._sharpened)

    def _batch(
        self, model: Decoder, rng: np.random.Generator
    ) -> tuple[Tensor, Sequence[Scene], Tensor, Given]:
        """Signals, their scenes, their embeddings, and what the decoder is given of each."""
        batch = self._corpus.draw(rng, self._count, self._shares)
        drawn = [self._corpus.scenes[i] for i in batch]
        pictures, keep, scenes = draw_edits(rng, self._corpus.pictures[batch], drawn, ALL_HIDDEN)
        x0 = to_signal(on_device(pictures))
        right = self._embedded.image(batch)
        dropped = on_device(rng.random(self._count) < DROP_IMAGE)[:, None]
        image = torch.where(dropped, model.conditioning.null_image, right)
        text = drop_text(self._embedded.text(batch), self._blank, DROP_TEXT, rng)
        return x0, scenes, right, (known_channels(x0, keep), image, *text)

    @torch.no_grad()
    def _begun(self, model: Decoder, x0: Tensor, given: Given, generator: torch.Generator) -> Tensor:
        """The signals, of which a share of those to be sharpened are what the network itself predicts."""
        own = slice(round(OWN * self._sharpened))
        begun = x0.clone()
        t = _timesteps(*GUIDED, len(x0[own]), generator)
        x = self._noised(x0[own], t, generator)
        begun[own] = _predicted(model, x, t, _rows(given, own)).clamp(-1, 1)
        return begun

    def _noised(self, signal: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        level, sigma = (part[:, None, None, None] for part in self._schedule.levels(t))
        return level * signal + sigma * torch.randn(signal.shape, device=signal.device, generator=generator)


def _timesteps(low: int, high: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, (count,), device=best_device(), generator=generator)


def _rows(given: Given, rows: slice) -> Given:
    return tuple(part[rows] for part in given)


def _predicted(model: Decoder, x: Tensor, t: Tensor, given: Given) -> Tensor:
    with autocast(), fast_attention():
        output: Tensor = model(x, t, *given).float()
    return output


RECIPE = Recipe(
    train,
    RunConfig(steps=4_000, learning_rate=5e-5, batch=32, warmup=50, ema=0.995),
    needs=("clip", "decoder"),
)
