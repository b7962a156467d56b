"""Sharpen the base decoder: an adversary pulls at what it makes of pictures with little to middling noise.

The squared error alone leaves blur where the network cannot know. At the noisy end it decides what a picture
shows, where realism of *any* picture would be cheaper than the right one. So there it stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from services.bundles.weights import best_device, load_weights
from services.decoder.network import Decoder, known_channels
from services.diffusion.pixels import to_signal
from services.diffusion.prediction import x0_weight
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
    noisy_timesteps,
    object_weights,
)
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, drop_text
from services.training.recipes.export import save_part
from services.training.recipes.grid import save_grid
from services.training.recipes.recipe import Recipe

NAME = "sharpening"
ALL_HIDDEN = 0.65  # share of the batch with no known pixels
SHARPENED = 0.7  # share of the batch that the adversary sees
LEVELS = (60, 760)  # timesteps of these pictures
OWN = 0.5  # share of these that begin from the network's own prediction, as when it samples
OWN_FROM = (700, 1000)  # timesteps of that prediction
PERCEPTUAL = 0.5  # weight of the distance that CLIP sees


def train(folder: Path, config: RunConfig) -> None:
    """Train ``folder/bundle/decoder`` on, and write it there."""
    embedder = Embedder(folder)
    corpus = Corpus(folder, config.scenes)
    part = folder / "bundle/decoder"
    torch.manual_seed(7)
    model = load_weights(Decoder(CONFIG), part / "model.safetensors").float()
    model = model.to(memory_format=torch.channels_last).requires_grad_(True)

    def sample(ema: nn.Module, step: int) -> None:
        assert isinstance(ema, Decoder)
        save_grid(ema, embedder, folder / "samples" / f"{NAME}-{step:06d}.png")

    run = Run(NAME, model, replace(config, start_from=None), folder)
    ema = run.train(_loss(corpus, embedder, config.batch), save_every=400.0, sample=sample)
    save_part(ema, CONFIG, part)


def _loss(corpus: Corpus, embedder: Embedder, batch_size: int) -> Loss:
    """The recipe's own error of all rows, and what the adversary says of those with less noise."""
    schedule = CONFIG.diffusion.make_schedule()
    embedded = EmbeddedCorpus(corpus, embedder)
    blank = embedder.text([""])
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
        known = known_channels(x0, keep)
        text, states, mask = drop_text(embedded.text(batch), blank, DROP_TEXT, rng)
        right = embedded.image(batch)
        dropped = on_device(rng.random(batch_size) < DROP_IMAGE)[:, None]
        image = torch.where(dropped, model.conditioning.null_image, right)

        def noised(signal: Tensor, t: Tensor) -> Tensor:
            level, sigma = (part[:, None, None, None] for part in schedule.levels(t))
            noise = torch.randn(signal.shape, device=signal.device, generator=generator)
            return level * signal + sigma * noise

        def predicted(x: Tensor, t: Tensor, rows: slice) -> Tensor:
            with autocast(), fast_attention():
                given = (known[rows], image[rows], text[rows], states[rows], mask[rows])
                output: Tensor = model(x, t, *given).float()
            return output

        begun = x0.clone()
        with torch.no_grad():
            t = torch.randint(*OWN_FROM, (own,), device=x0.device, generator=generator)
            begun[:own] = predicted(noised(x0[:own], t), t, slice(own)).clamp(-1, 1)
        t = noisy_timesteps(len(schedule), batch_size, generator)
        t[:sharpened] = torch.randint(*LEVELS, (sharpened,), device=x0.device, generator=generator)
        output = predicted(noised(begun, t), t, slice(None))
        error = ((output - x0).square().mean(1) * object_weights(scenes, SIDE)).mean((1, 2))
        squared = (error * x0_weight(schedule, t)).mean()
        perceptual = embedder.perceptual_distance(output[:sharpened], x0[:sharpened], rng)
        return adversary.balanced(squared + PERCEPTUAL * perceptual, output, x0, right, sharpened)

    return loss_of


RECIPE = Recipe(
    train,
    RunConfig(steps=4_000, learning_rate=5e-5, batch=32, warmup=50, ema=0.995),
    needs=("clip", "decoder"),
)
