"""The judge: a small classifier trained on real scenes, that knows nothing of the bundle's CLIP.

It says which objects are in a picture, where each is, and which background it is; its pooled features serve the
Frechet distance.
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

from services.decoder.unet import GroupNorm
from services.training import loop
from services.training.data.artwork import load_vocabulary
from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.corpus import Corpus
from services.training.data.scenes import Scene
from services.training.recipes.embedder import to_signal

SIDE = 64
CELLS = 8  # the picture is looked at in CELLS x CELLS places
WIDTHS = (32, 64, 128, 256)
NOTHING_WEIGHT = 0.05  # of a place without an object's centre; there are some sixty for every one with
RECIPE = loop.Recipe(steps=3_000, learning_rate=2e-3, batch=96, warmup=60, weight_decay=0.05, ema=0.99)
BATCH = 128


class Judge(nn.Module):
    """A small convolutional classifier of pictures (B, 3, 64, 64) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(a, b) for a, b in pairwise((3, *WIDTHS)))
        objects = len(load_vocabulary())
        self.classify = nn.Linear(2 * WIDTHS[-1], objects + len(BACKGROUNDS))
        self.locate = nn.Conv2d(WIDTHS[-2] + WIDTHS[-1], objects + 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits of objects, then backgrounds, (B, objects + backgrounds); of what is centred in each place
        (nothing last), (B, objects + 1, CELLS, CELLS); and the pooled features (B, F)."""
        previous = x
        for level in self.levels:
            previous, x = x, level(x)
        places = self.locate(torch.cat([previous, F.interpolate(x, scale_factor=2.0)], dim=1))
        # By mean, since backgrounds are everywhere, and by maximum, since objects are somewhere.
        return self.classify(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)), places, x.mean((2, 3))


def _level(channels_in: int, channels: int) -> nn.Sequential:
    """Halves the side."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride=2, padding=1), GroupNorm(16, channels), nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1), GroupNorm(16, channels), nn.SiLU(),
    )  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What scenes show: objects as a multi-hot (B, objects), background (B,), what is centred where (B, CELLS, CELLS)."""

    objects: Tensor
    backgrounds: Tensor
    places: Tensor


def labels(scenes: Sequence[Scene]) -> Labels:
    """The truth about scenes."""
    names, backgrounds = object_indices(), {b.name: i for i, b in enumerate(BACKGROUNDS)}
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


def train(folder: Path, recipe: loop.Recipe = RECIPE) -> nn.Module:
    """Train (or resume, or just load) the judge from ``folder/judge.checkpoint.pt``."""
    torch.manual_seed(5)
    model = Judge().to(memory_format=torch.channels_last)
    run = loop.Run("judge", model, recipe, folder)
    if run.progress >= 1:
        return run.ema
    corpus, split = Corpus(folder, recipe.scenes), len(load_vocabulary())
    truth = labels(corpus.scenes)
    weights = torch.cat([torch.ones(split), torch.tensor([NOTHING_WEIGHT])]).to(loop.device())

    def loss_of(model: nn.Module, step: int) -> Tensor:
        rng = np.random.default_rng((5, step))
        batch = corpus.draw(rng, recipe.batch)
        objects, backgrounds, places = (
            t[batch].to(loop.device()) for t in (truth.objects, truth.backgrounds, truth.places)
        )
        with loop.autocast():
            logits, placed, _ = model(_soften(to_signal(corpus.pictures[batch]), rng))
        found = (
            F.binary_cross_entropy_with_logits(logits[:, :split].float(), objects, reduction="none")
            .sum(1)
            .mean()
        )
        return (
            found
            + F.cross_entropy(logits[:, split:].float(), backgrounds)
            + F.cross_entropy(placed.float(), places, weight=weights)
        )

    return run.train(loss_of)


def _soften(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur and grain now and then, so that the judge looks at what is drawn and not at how sharply."""
    if rng.random() < 0.4:
        side = int(rng.integers(24, SIDE))
        x = F.interpolate(
            F.interpolate(x, size=(side, side), mode="area"), size=(SIDE, SIDE), mode="bilinear"
        )
    return x + float(rng.uniform(0, 0.08)) * torch.randn_like(x)


@dataclass(frozen=True)
class Verdicts:
    """What the judge says of B pictures, on the CPU: object numbers best first (B, objects); background numbers (B,);
    probability of each object being centred in each place (B, objects, CELLS, CELLS); features (B, F)."""

    objects: Tensor
    backgrounds: Tensor
    places: Tensor
    features: Tensor

    def best_place(self, picture: int, number: int) -> tuple[float, float]:
        """(x, y) in cells of where the object most likely is."""
        y, x = divmod(int(self.places[picture, number].argmax()), CELLS)
        return float(x), float(y)


@torch.no_grad()
def verdicts(judge: nn.Module, pictures: npt.NDArray[np.uint8]) -> Verdicts:
    """What the judge says of uint8 (B, 64, 64, 3)."""
    judge.eval()
    split, parts = len(load_vocabulary()), []
    for start in range(0, len(pictures), BATCH):
        with loop.autocast():
            logits, places, features = judge(to_signal(np.array(pictures[start : start + BATCH])))
        ranked = logits[:, :split].float().argsort(1, descending=True)
        parts.append(
            (ranked, logits[:, split:].argmax(1), places.float().softmax(1)[:, :-1], features.float())
        )
    return Verdicts(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
