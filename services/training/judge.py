"""The judge: a small classifier of objects and backgrounds, trained on real scenes, that knows nothing of the bundle's CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.decoder.unet import GroupNorm
from services.training import loop
from services.training.artwork import load_vocabulary
from services.training.backgrounds import BACKGROUNDS
from services.training.embedder import to_signal
from services.training.scenes import Scene, compose

SIDE = 64
WIDTHS = (32, 64, 128, 256)
RECIPE = loop.Recipe(steps=2_500, learning_rate=2e-3, batch=64, warmup=60, weight_decay=0.05, ema=0.99)


class Judge(nn.Module):
    """A small convolutional classifier: (B, 3, 64, 64) in [-1, 1] -> logits of every object, then of every background."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels in pairwise((3, *WIDTHS)):
            layers += [nn.Conv2d(channels_in, channels, 3, stride=2, padding=1), GroupNorm(16, channels), nn.SiLU()]
            layers += [nn.Conv2d(channels, channels, 3, padding=1), GroupNorm(16, channels), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(2 * WIDTHS[-1], len(load_vocabulary()) + len(BACKGROUNDS))

    def forward(self, x: Tensor) -> Tensor:
        """Pools by mean (backgrounds are everywhere) and by maximum (objects are somewhere)."""
        features = self.features(x)
        return self.classify(torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1))


def labels(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Objects as a multi-hot (B, objects), backgrounds as indices (B,)."""
    names = {a.name: i for i, a in enumerate(load_vocabulary())}
    objects = torch.zeros(len(scenes), len(names))
    for row, scene in zip(objects, scenes, strict=True):
        row[[names[a.name] for a in scene.objects]] = 1
    places = {b.name: i for i, b in enumerate(BACKGROUNDS)}
    return objects, torch.tensor([places[s.background.name] for s in scenes])


def train(folder: Path, recipe: loop.Recipe = RECIPE) -> nn.Module:
    """Train (or resume, or just load) the judge from ``folder/judge.checkpoint.pt``."""
    torch.manual_seed(5)
    split = len(load_vocabulary())

    def loss_of(model: nn.Module, step: int) -> Tensor:
        rng = np.random.default_rng((5, step))
        pictures, scenes = compose(rng, recipe.batch, SIDE)
        objects, places = (t.to(loop.device()) for t in labels(scenes))
        x = _soften(to_signal(pictures), rng)
        with loop.autocast():
            logits = model(x).float()
        found = F.binary_cross_entropy_with_logits(logits[:, :split], objects, reduction="none").sum(1).mean()
        return found + F.cross_entropy(logits[:, split:], places)

    model = Judge().to(memory_format=torch.channels_last)
    return loop.Run("judge", model, recipe, folder).train(loss_of)


def _soften(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur and grain now and then, so that the judge looks at what is drawn and not at how sharply."""
    if rng.random() < 0.4:
        side = int(rng.integers(24, SIDE))
        x = F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=(SIDE, SIDE), mode="bilinear")
    return x + float(rng.uniform(0, 0.08)) * torch.randn_like(x)


@torch.no_grad()
def verdicts(judge: nn.Module, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
    """uint8 (B, 64, 64, 3) -> object indices best first (B, objects), background index (B,)."""
    judge.eval()
    split = len(load_vocabulary())
    with loop.autocast():
        logits = torch.cat([judge(to_signal(pictures[i : i + 64])).float() for i in range(0, len(pictures), 64)])
    return logits[:, :split].argsort(1, descending=True).cpu(), logits[:, split:].argmax(1).cpu()
