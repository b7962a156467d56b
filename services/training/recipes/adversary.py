"""An adversary: it tells made pictures from real ones, and the network that makes them learns from that.

Projected GAN (arXiv 2111.01007): small heads on features of a frozen network, at several scales, with the
hinge loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from services.bundles.weights import best_device
from services.training.device import autocast
from services.training.features import CHANNELS, EfficientNetLite0

WIDTH = 96
LEARNING_RATE = 4e-4
PATIENCE = 100  # steps in which it learns alone
REALISM = 0.5
LIKENESS = 0.5
REFRESH = 8  # steps between comparisons of the gradients' sizes


class Head(nn.Module):
    """Scores places of one scale's features, after a random projection that stays as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, WIDTH, 1, bias=False).requires_grad_(False)
        self.layers = nn.Sequential(
            nn.GroupNorm(8, WIDTH),
            spectral_norm(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w)."""
        scores: Tensor = self.score(self.layers(self.project(features)))
        return scores


class Adversary:
    """Heads on EfficientNet-Lite0's features.

    They are not part of a checkpoint: a run that is resumed teaches them anew.
    """

    def __init__(self, enlarge: int) -> None:
        """enlarge: by how much pictures are enlarged first, whose detail is finer than a photograph's."""
        self._enlarge = enlarge
        device = best_device()
        self._features = EfficientNetLite0().to(device)
        self._heads = nn.ModuleList(Head(channels) for channels in CHANNELS).to(device)
        learnt = [p for p in self._heads.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(learnt, lr=LEARNING_RATE, betas=(0.0, 0.99))
        self._steps = 0
        self._weights: list[float] = []  # of distance and unreality, since they were last compared

    def balanced(self, error: Tensor, made: Tensor, real: Tensor) -> Tensor:
        """A loss with the error's value, whose gradient is that of the error, of realism and of likeness.

        error: a scalar, differentiable in ``made``. made, real: signals (B, 3, H, W). The gradients in
        ``made`` of how unreal it looks, and of its distance from the real ones in features, are scaled to
        REALISM and LIKENESS times the error's (as in arXiv 2012.09841, equation 7), now and then.
        """
        parts = self._judge(made, real)
        (own,) = torch.autograd.grad(error, made, retain_graph=True)
        if self._steps % REFRESH == 1 or len(parts) != len(self._weights):
            sizes = [torch.autograd.grad(part, made, retain_graph=True)[0].norm() for part in parts]
            shares = (LIKENESS, REALISM)[: len(parts)]
            ratios = [share * own.norm() / size for share, size in zip(shares, sizes, strict=True)]
            self._weights = [float(ratio) for ratio in ratios]
        looks = torch.stack([w * part for w, part in zip(self._weights, parts, strict=True)]).sum()
        (more,) = torch.autograd.grad(looks, made, retain_graph=True)
        surrogate = (made * (own + more).detach()).sum()
        return surrogate - surrogate.detach() + error.detach()

    def _judge(self, made: Tensor, real: Tensor) -> list[Tensor]:
        """Learn from both batches. Then say how far the made one is from the other, and how unreal it looks.

        The latter only when it can tell.
        """
        shift = tuple(torch.randint(-4, 5, (2,)).tolist())
        with torch.no_grad(), autocast():
            real_features = [f.float() for f in self._seen(real.roll(shift, (2, 3)))]
        # In bfloat16 the way back through depthwise convolutions takes three times as long on a CPU.
        made_features = self._seen(made.roll(shift, (2, 3)))
        self._learn([f.detach() for f in made_features], real_features)
        distances = [
            (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean()
            for a, b in zip(made_features, real_features, strict=True)
        ]
        distance = torch.stack(distances).mean()
        if self._steps <= PATIENCE:
            return [distance]
        scores = self._scores(made_features)
        return [distance, -torch.stack([score.mean() for score in scores]).mean()]

    def _learn(self, made: list[Tensor], real: list[Tensor]) -> None:
        hinges = [F.relu(1 - score).mean() for score in self._scores(real)]
        hinges += [F.relu(1 + score).mean() for score in self._scores(made)]
        torch.stack(hinges).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._steps += 1

    def _seen(self, signal: Tensor) -> list[Tensor]:
        large = F.interpolate(signal, scale_factor=self._enlarge, mode="bilinear", align_corners=False)
        with autocast():
            return [
                f.float() for f in self._features.scales(large.contiguous(memory_format=torch.channels_last))
            ]

    def _scores(self, features: list[Tensor]) -> list[Tensor]:
        return [head(f) for head, f in zip(self._heads, features, strict=True)]
