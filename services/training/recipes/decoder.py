"""Train the base decoder at 64 px, with joint inpainting, on scenes embedded by the bundle's CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
from services.training.data.prefetching import Prefetched
from services.training.data.scenes import Scene
from services.training.device import autocast, fast_attention
from services.training.loop import Loss, Run, RunConfig
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, first, without_captions
from services.training.recipes.export import save_part
from services.training.recipes.grid import save_grid
from services.training.recipes.imagining import Imagination
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
        sampling=SamplingConfig(sampler="ancestral", steps=6, guidance=3.0, guidance_interval=(0.5, 1.0)),
    ),
)
ALL_HIDDEN = 0.65  # share of the batch with no known pixels: plain generation
DROP_IMAGE = 0.1  # share of the batch without an image embedding
DROP_TEXT = 0.25  # share of the batch without a caption
# Share of the batch whose embedding is what the prior imagines of the caption, where there is one: so it is
# when pictures are asked for in words, and the network learns what is to be trusted then.
IMAGINED = 0.5
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
    imagination = Imagination(folder / "bundle")
    batches = Batches(Corpus(folder, config.scenes), embedder, imagination, config.batch, config.workers)
    torch.manual_seed(2)
    model = Decoder(CONFIG).to(memory_format=torch.channels_last)
    initialise(model.unet)

    def sample(ema: nn.Module, step: int) -> None:
        assert isinstance(ema, Decoder)
        save_grid(ema, embedder, folder / "samples" / f"decoder-{step:06d}.png")

    loss_of = _loss(batches, embedder)
    with closing(batches):
        ema = Run("decoder", model, config, folder).train(loss_of, save_every=SAVE_SECONDS, sample=sample)
    save_part(ema, CONFIG, folder / "bundle/decoder")


def _loss(batches: Batches, embedder: Embedder) -> Loss:
    """The error in the picture, weighted by noise and by objects, and how differently CLIP sees it."""

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        assert isinstance(model, Decoder)
        generator = torch.Generator(best_device()).manual_seed(draw)
        batch = batches.take(model, draw)
        t = noisy_timesteps(torch.rand(len(batch.x0), device=best_device(), generator=generator))
        with autocast(), fast_attention():
            output = model(batch.noised(t, generator), t, *batch.given).float()
            # At little noise the squared error says enough. CLIP on all of the batch took 40 % of the time.
            noisiest = t.argsort(descending=True)[: (len(t) + 1) // 2]
            rng = np.random.default_rng((2, draw, 1))
            perceptual = embedder.perceptual_distance(output[noisiest], batch.x0[noisiest], rng)
            return batch.error(output, t) + PERCEPTUAL * perceptual

    return loss_of


class Drawn(NamedTuple):
    """What is drawn of a batch of scenes before any network sees it, on the CPU.

    pictures: (B, SIDE, SIDE, 3), in [0, 255]. keep: (B, 1, SIDE, SIDE), 1 = known. weights: of errors, as
    ``object_weights`` has them. no_image, no_caption: which rows go without, (B,).
    """

    indices: Tensor
    pictures: Tensor
    keep: Tensor
    weights: Tensor
    no_image: Tensor
    no_caption: Tensor


@dataclass(frozen=True)
class Batch:
    """Signals x0, (B, 3, SIDE, SIDE), of scenes, and what a decoder is given of each beside x and t.

    weights: of errors, (B, SIDE, SIDE).
    """

    x0: Tensor
    weights: Tensor
    given: Given

    def noised(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """The signals at timesteps t, (B,)."""
        signal, sigma = (level[:, None, None, None] for level in SCHEDULE.levels(t))
        noise = torch.randn(self.x0.shape, device=self.x0.device, generator=generator)
        return signal * self.x0 + sigma * noise

    def error(self, output: Tensor, t: Tensor) -> Tensor:
        """The squared error, weighted by objects and by noise: a scalar."""
        error = ((output - self.x0).square().mean(1) * self.weights).mean((1, 2))
        return (error * x0_weight(SCHEDULE, t)).mean()


class Batches:
    """Batches of ``count`` scenes, some with holes, some without their caption or embedding."""

    def __init__(
        self, corpus: Corpus, embedder: Embedder, imagination: Imagination, count: int, workers: int
    ) -> None:
        self._count = count
        self._imagination = imagination
        self._blank = embedder.text([""])
        self._corpus = corpus
        self._embedded = EmbeddedCorpus(corpus, embedder)
        self._shares = draw_shares(corpus.scenes)
        self._drawn = Prefetched(self._draw, workers)

    def take(self, model: Decoder, draw: int) -> Batch:
        """The batch of this number. model: whose null embedding stands where the picture's is left out."""
        device = best_device()
        drawn = Drawn(*(part.to(device, non_blocking=True) for part in self._drawn.take(draw)))
        x0 = to_signal(drawn.pictures)
        text = without_captions(self._embedded.text(drawn.indices), self._blank, drawn.no_caption)
        image = self._embedded.image(drawn.indices)
        some = round(IMAGINED * self._count)  # rows are in no order, so the first will do
        generator = torch.Generator().manual_seed(int(np.random.default_rng((2, draw, 2)).integers(2**31)))
        imagined = self._imagination.image(first(text, some), self._blank, generator)
        image[:some] = torch.where(drawn.no_caption[:some, None], image[:some], imagined)
        image = torch.where(drawn.no_image[:, None], model.conditioning.null_image, image)
        return Batch(x0, drawn.weights, (known_channels(x0, drawn.keep), image, *text))

    def close(self) -> None:
        """End the processes that draw."""
        self._drawn.close()

    def _draw(self, draw: int) -> Drawn:
        rng = np.random.default_rng((2, draw))
        chosen = self._corpus.draw(rng, self._count, self._shares)
        scenes = [self._corpus.scenes[i] for i in chosen]
        pictures, keep, scenes = draw_edits(rng, self._corpus.pictures[chosen], scenes, ALL_HIDDEN)
        return Drawn(
            torch.from_numpy(chosen),
            torch.from_numpy(pictures),
            keep,
            object_weights(scenes, SIDE),
            torch.from_numpy(rng.random(self._count) < DROP_IMAGE),
            torch.from_numpy(rng.random(self._count) < DROP_TEXT),
        )


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
    return torch.from_numpy(weights)


def noisy_timesteps(u: Tensor) -> Tensor:
    """Timesteps of uniform u in [0, 1), of which more are noisy.

    u -> s u / (1 + (s - 1) u), where s is SHIFT (arXiv 2403.03206, equation 23).
    """
    shifted = SHIFT * u / (1 + (SHIFT - 1) * u)
    return (len(SCHEDULE) * shifted).long().clamp_max(len(SCHEDULE) - 1)


RECIPE = Recipe(
    train,
    RunConfig(steps=60_000, learning_rate=1e-3, batch=32, warmup=100, ema=0.998, muon=True),
    needs=("clip", "prior"),
)
