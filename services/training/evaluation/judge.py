"""The judge: a small classifier that is trained on real scenes and knows nothing of the bundle's CLIP.

It says which objects are in a picture, where each is, and which background there is. Its pooled features
serve the Frechet distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.bundles.weights import best_device
from services.decoder.blocks import GroupNorm
from services.diffusion.pixels import to_signal
from services.training.data.artwork import load_vocabulary
from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.corpus import Corpus
from services.training.data.scenes import Scene
from services.training.device import autocast, on_device
from services.training.loop import Loss, Run, RunConfig
from services.training.recipes.recipe import Recipe

SIDE = 64
CELLS = 8  # the picture is looked at in CELLS x CELLS places
WIDTHS = (32, 64, 128, 256)
NOTHING_WEIGHT = 0.05  # of a place without an object's centre: there are some sixty for every one with
SOFT_SHARE = 0.4  # of the batches, whose pictures are blurred
GRAIN = 0.08  # at most
RUN = RunConfig(steps=1_800, learning_rate=2e-3, batch=96, warmup=60, weight_decay=0.05, ema=0.99)
BATCH = 128  # pictures judged at a time


class Judge(nn.Module):
    """A small convolutional classifier of signals (B, 3, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(a, b) for a, b in pairwise((3, *WIDTHS)))
        objects = len(load_vocabulary())
        self.classify = nn.Linear(2 * WIDTHS[-1], objects + len(BACKGROUNDS))
        self.locate = nn.Conv2d(WIDTHS[-2] + WIDTHS[-1], objects + 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judge a batch.

        Returns the logits of objects, then backgrounds, (B, objects + backgrounds); the logits of what is
        centred in each place, nothing last, (B, objects + 1, CELLS, CELLS); the pooled features (B, F).
        """
        previous = x
        for level in self.levels:
            previous = x
            x = level(x)
        places = self.locate(torch.cat([previous, F.interpolate(x, scale_factor=2.0)], dim=1))
        mean = x.mean((2, 3))  # backgrounds are everywhere
        highest = x.amax((2, 3))  # objects are somewhere
        return self.classify(torch.cat([mean, highest], dim=1)), places, mean


def _level(channels_in: int, channels: int) -> nn.Sequential:
    """Two convolutions, of which the first halves the side."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride=2, padding=1),
        GroupNorm(16, channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        GroupNorm(16, channels),
        nn.SiLU(),
    )


@dataclass(frozen=True)
class Labels:
    """What scenes show.

    objects: (B, objects), 1 where an object is there. backgrounds: (B,). places: what is centred in each
    place, (B, CELLS, CELLS); the number after the last object's is nothing.
    """

    objects: Tensor
    backgrounds: Tensor
    places: Tensor


def labels(scenes: Sequence[Scene]) -> Labels:
    """The truth about scenes."""
    names = object_indices()
    backgrounds = {b.name: i for i, b in enumerate(BACKGROUNDS)}
    objects = torch.zeros(len(scenes), len(names))
    places = torch.full((len(scenes), CELLS, CELLS), len(names))
    for i, scene in enumerate(scenes):
        for artwork, placement in zip(scene.objects, scene.placements, strict=True):
            objects[i, names[artwork.name]] = 1
            places[i, int(placement.y * CELLS), int(placement.x * CELLS)] = names[artwork.name]
    return Labels(objects, torch.tensor([backgrounds[s.background.name] for s in scenes]), places)


def object_indices() -> dict[str, int]:
    """The judge's number of each object's name."""
    return {a.name: i for i, a in enumerate(load_vocabulary())}


def train(folder: Path, config: RunConfig = RUN) -> nn.Module:
    """The judge of ``folder/judge.checkpoint.pt``, trained first, or to its end, where it is not yet."""
    torch.manual_seed(5)
    model = Judge().to(memory_format=torch.channels_last)
    run = Run("judge", model, config, folder)
    if run.progress >= 1:
        return run.ema
    return run.train(_loss(Corpus(folder, config.scenes), config.batch))


def _loss(corpus: Corpus, batch_size: int) -> Loss:
    """Errors about objects, backgrounds and places, of a batch of scenes."""
    split = len(load_vocabulary())
    truth = labels(corpus.scenes)
    weights = torch.cat([torch.ones(split), torch.tensor([NOTHING_WEIGHT])]).to(best_device())
    truths = (truth.objects, truth.backgrounds, truth.places)

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        rng = np.random.default_rng((5, draw))
        batch = corpus.draw(rng, batch_size)
        objects, backgrounds, places = (t[batch].to(best_device()) for t in truths)
        with autocast():
            logits, placed, _ = model(_softened(to_signal(on_device(corpus.pictures[batch])), rng))
        found = F.binary_cross_entropy_with_logits(logits[:, :split].float(), objects, reduction="none")
        background = F.cross_entropy(logits[:, split:].float(), backgrounds)
        return found.sum(1).mean() + background + F.cross_entropy(placed.float(), places, weight=weights)

    return loss_of


def _softened(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Now and then blurred, and grained, so that the judge looks at what is drawn and not at how sharply."""
    if rng.random() < SOFT_SHARE:
        side = int(rng.integers(24, SIDE))
        small = F.interpolate(x, size=(side, side), mode="area")
        x = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
    return x + float(rng.uniform(0, GRAIN)) * torch.randn_like(x)


@dataclass(frozen=True)
class Verdicts:
    """What the judge says of B pictures, on the CPU.

    objects: their numbers, the likeliest first, (B, objects). backgrounds: their numbers, (B,).
    places: how likely each object is centred in each place, (B, objects, CELLS, CELLS). features: (B, F).
    """

    objects: Tensor
    backgrounds: Tensor
    places: Tensor
    features: Tensor

    def best_place(self, picture: int, number: int) -> tuple[float, float]:
        """(x, y), in cells, of where the object most likely is."""
        y, x = divmod(int(self.places[picture, number].argmax()), CELLS)
        return float(x), float(y)


@torch.no_grad()
def verdicts(judge: nn.Module, pictures: npt.NDArray[np.uint8]) -> Verdicts:
    """What the judge says of pictures (B, 64, 64, 3)."""
    judge.eval()
    split = len(load_vocabulary())
    parts = []
    for start in range(0, len(pictures), BATCH):
        with autocast():
            signal = to_signal(on_device(pictures[start : start + BATCH]))
            logits, places, features = judge(signal)
        ranked = logits[:, :split].float().argsort(1, descending=True)
        likely = places.float().softmax(1)[:, :-1]
        parts.append((ranked, logits[:, split:].argmax(1), likely, features.float()))
    return Verdicts(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


RECIPE = Recipe(train, RUN)
