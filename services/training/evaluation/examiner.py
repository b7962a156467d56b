"""The examiner: has pictures drawn and judged, and keeps what is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from services.bundles.weights import best_device
from services.diffusion.pixels import to_signal
from services.training.data.scenes import Arrangement, Scene, render, sample_scene
from services.training.device import on_device
from services.training.evaluation import judge as judging
from services.training.evaluation.findings import Findings
from services.training.evaluation.judge import Verdicts
from services.training.evaluation.measures import reduced
from services.training.evaluation.painter import Painter, Pictures, Settings
from services.training.features import EfficientNetLite0
from services.training.loop import console

BATCH = 25  # pictures drawn at a time


class Examiner:
    """Draws, judges and collects. count: pictures for each figure. numbers: the judge's, of objects."""

    def __init__(self, painter: Painter, judge: nn.Module, settings: Settings, count: int, seed: int) -> None:
        self.painter = painter
        self.judge = judge
        self.settings = settings
        self.count = count
        self.seed = seed
        self.findings = Findings()
        self.numbers = judging.object_indices()
        self._network = EfficientNetLite0().to(best_device())

    def scenes(self, arrangement: Arrangement, salt: int, *, held_out: bool = False) -> list[Scene]:
        """Scenes that no training run draws: the seed of their generator is another."""
        rng = np.random.default_rng((self.seed, salt))
        return [sample_scene(rng, held_out=held_out, arrangement=arrangement) for _ in range(self.count)]

    def real(self, scenes: Sequence[Scene], side: int = judging.SIDE) -> Pictures:
        """The scenes themselves, (B, side, side, 3)."""
        return np.stack([render(s, side) for s in scenes])

    def judged(self, pictures: Sequence[Pictures] | Pictures) -> Verdicts:
        """The judge's verdicts on pictures of any size."""
        return judging.verdicts(self.judge, np.stack([reduced(p) for p in pictures]))

    def batches(self, what: str, count: int | None = None) -> Iterator[slice]:
        """Slices of at most BATCH of ``count`` pictures (all, if it is not given), with a progress bar."""
        end = self.count if count is None else count
        for start in track(range(0, end, BATCH), what, console=console):
            yield slice(start, min(start + BATCH, end))

    def generator(self, *salt: int) -> np.random.Generator:
        """Random numbers of this examination."""
        return np.random.default_rng((self.seed, *salt))

    def features(self, pictures: Sequence[Pictures] | Pictures) -> Tensor:
        """Features of pictures (B, S, S, 3) at their own size, that were learnt from photographs: (B, F)."""
        parts = [
            self._network(to_signal(on_device(np.stack(list(pictures[start : start + BATCH])))))
            for start in range(0, len(pictures), BATCH)
        ]
        return torch.cat(parts).cpu()

    def drawn(self, scenes: Sequence[Scene], what: str) -> Pictures:
        """Pictures of the scenes' captions."""
        prompts = [s.caption for s in scenes]
        made = [
            self.painter.generate(prompts[part], self.settings, self.seed + part.start)
            for part in self.batches(what)
        ]
        return np.concatenate(made)
