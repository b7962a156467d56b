"""Train the base decoder at 64 px, with joint inpainting, on scenes embedded by the bundle's CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from services.bundles.weights import best_device
from services.decoder.conditioning import ConditioningConfig
from services.decoder.network import MASK_CHANNELS, Decoder, DecoderConfig, known_channels
from services.decoder.unet import initialise
from services.decoder.unet_config import UNetConfig
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.diffusion.pixels import to_signal
from services.diffusion.prediction import x0_weight
from services.training.data.corpus import Corpus, Shares
from services.training.data.holes import draw_edits
from services.training.data.scenes import Scene
from services.training.device import autocast, fast_attention, on_device
from services.training.loop import Loss, Run, RunConfig
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, drop_text
from services.training.recipes.export import save_part
from services.training.recipes.grid import save_grid
from services.training.recipes.recipe import Recipe

SIDE = 64
PATCH = 4
CONFIG = DecoderConfig(
    side=SIDE,
    unet=UNetConfig(
        in_channels=3 + MASK_CHANNELS,
        out_channels=3,
        channels=(128, 256),
        layers_per_level=1,
        attention=(True, True),
        mid_attention=True,
        context_dim=192,
        patch_size=PATCH,
        positions=SIDE // PATCH,  # in noise, attention cannot tell places apart without them
        detail=64,
    ),
    conditioning=ConditioningConfig(embedding_dim=192, text_dim=192),
    diffusion=DiffusionConfig(
        prediction="sample",
        spacing="trailing",
        sampling=SamplingConfig(sampler="ancestral", steps=4, guidance=3.0, guidance_interval=(0.4, 1.0)),
    ),
)
ALL_HIDDEN = 0.65  # share of the batch with no known pixels: plain generation
DROP_IMAGE = 0.1  # share of the batch without an image embedding
DROP_TEXT = 0.25  # share of the batch without a caption
# What an object's square counts, the whole picture being 1. Most of a picture is background, which is soon
# learnt.
OBJECT = 2.0
PERCEPTUAL = 0.25  # weight of the distance that CLIP sees, in the noisier half of a batch
# How often a scene is drawn whose caption says a size, any other being 1: small objects are drawn worst.
SAID_SIZE = 3.0
# More noise: above timestep 600 it is settled what a picture shows, and small errors below cost little.
SHIFT = 2.0
SAVE_SECONDS = 400.0
SCHEDULE = CONFIG.diffusion.make_schedule()
Given = tuple[Tensor, ...]  # known channels, image embedding, text embedding, its states and mask


def train(folder: Path, config: RunConfig) -> None:
    """Train and write ``folder/bundle/decoder``. Grids of samples go to ``folder/samples``."""
    embedder = Embedder(folder / "bundle")
    batches = Batches(Corpus(folder, config.scenes), embedder, config.batch)
    torch.manual_seed(2)
    model = Decoder(CONFIG).to(memory_format=torch.channels_last)
    initialise(model.unet)

    def sample(ema: nn.Module, step: int) -> None:
        assert isinstance(ema, Decoder)
        save_grid(ema, embedder, folder / "samples" / f"decoder-{step:06d}.png")

    loss_of = _loss(batches, embedder)
    ema = Run("decoder", model, config, folder).train(loss_of, save_every=SAVE_SECONDS, sample=sample)
    save_part(ema, CONFIG, folder / "bundle/decoder")


def _loss(batches: Batches, embedder: Embedder) -> Loss:
    """The error in the picture, weighted by noise and by objects, and how differently CLIP sees it."""

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        assert isinstance(model, Decoder)
        rng = np.random.default_rng((2, draw))
        generator = torch.Generator(best_device()).manual_seed(draw)
        batch = batches.draw(model, rng)
        t = noisy_timesteps(torch.rand(batches.count, device=best_device(), generator=generator))
        with autocast(), fast_attention():
            output = model(batch.noised(t, generator), t, *batch.given).float()
            # At little noise the squared error says enough. CLIP on all of the batch took 40 % of the time.
            noisiest = t.argsort(descending=True)[: (batches.count + 1) // 2]
            perceptual = embedder.perceptual_distance(output[noisiest], batch.x0[noisiest], rng)
            return batch.error(output, batch.x0, t) + PERCEPTUAL * perceptual

    return loss_of


@dataclass(frozen=True)
class Batch:
    """Signals x0, (B, 3, SIDE, SIDE), of scenes, and what a decoder is given of each beside x and t."""

    x0: Tensor
    scenes: Sequence[Scene]
    given: Given

    def noised(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """The signals at timesteps t, (B,)."""
        signal, sigma = (level[:, None, None, None] for level in SCHEDULE.levels(t))
        noise = torch.randn(self.x0.shape, device=self.x0.device, generator=generator)
        return signal * self.x0 + sigma * noise

    def error(self, output: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """The squared error, weighted by objects and by noise: a scalar."""
        weights = object_weights(self.scenes, SIDE)
        error = ((output - target).square().mean(1) * weights).mean((1, 2))
        return (error * x0_weight(SCHEDULE, t)).mean()


class Batches:
    """Batches of ``count`` scenes, some with holes, some without their caption or embedding."""

    def __init__(self, corpus: Corpus, embedder: Embedder, count: int) -> None:
        self.count = count
        self.blank = embedder.text([""])
        self._corpus = corpus
        self._embedded = EmbeddedCorpus(corpus, embedder)
        self._shares = draw_shares(corpus.scenes)

    def draw(self, model: Decoder, rng: np.random.Generator) -> Batch:
        """A batch. model: whose null embedding stands where the picture's is left out."""
        chosen = self._corpus.draw(rng, self.count, self._shares)
        drawn = [self._corpus.scenes[i] for i in chosen]
        pictures, keep, scenes = draw_edits(rng, self._corpus.pictures[chosen], drawn, ALL_HIDDEN)
        x0 = to_signal(on_device(pictures))
        text = drop_text(self._embedded.text(chosen), self.blank, DROP_TEXT, rng)
        dropped = on_device(rng.random(self.count) < DROP_IMAGE)[:, None]
        image = torch.where(dropped, model.conditioning.null_image, self._embedded.image(chosen))
        return Batch(x0, scenes, (known_channels(x0, keep), image, *text))


def draw_shares(scenes: Sequence[Scene]) -> Shares:
    """How likely each scene is to be drawn: (len(scenes),), with sum 1.

    A scene whose caption says a size is SAID_SIZE times as likely as another.
    """
    likelihoods = np.array([SAID_SIZE if scene.size else 1.0 for scene in scenes])
    return likelihoods / likelihoods.sum()


def object_weights(scenes: Sequence[Scene], side: int) -> Tensor:
    """The weights of errors in pictures of these scenes, (B, side, side): 1, and more over objects.

    Over each object OBJECT divided by its area is added, so small objects count as much as large ones.
    """
    weights = np.ones((len(scenes), side, side), np.float32)
    for row, scene in zip(weights, scenes, strict=True):
        for place in scene.placements:
            row[place.box(side)] += OBJECT / place.side**2
    return on_device(weights)


def noisy_timesteps(u: Tensor) -> Tensor:
    """Timesteps of uniform u in [0, 1), of which more are noisy.

    u -> s u / (1 + (s - 1) u), where s is SHIFT (arXiv 2403.03206, equation 23).
    """
    shifted = SHIFT * u / (1 + (SHIFT - 1) * u)
    return (len(SCHEDULE) * shifted).long().clamp_max(len(SCHEDULE) - 1)


RECIPE = Recipe(
    train,
    RunConfig(steps=60_000, learning_rate=1e-3, batch=32, warmup=100, ema=0.998, muon=True),
    needs=("clip",),
)
