"""The loop that trains every network: learning rate, averaged weights, progress, checkpoints."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from services.bundles.bundle import sha256
from services.bundles.weights import best_device
from services.training.optimizer import MuonWithAdamW

Loss = Callable[[nn.Module, int], torch.Tensor]  # of the model, on the batch of this number
Sample = Callable[[nn.Module, int], None]  # of the averaged model, after this many steps
Weights = tuple[torch.Tensor, ...] | list[torch.Tensor]
CONSTANT_SHARE = 0.4  # of a run, before its learning rate falls
console = Console()


@dataclass(frozen=True)
class RunConfig:
    """The numbers of one training run.

    steps: of the optimizer, in the whole run. minutes: of training time, in the whole run, instead of
    ``steps``; 0: as many steps as ``steps`` says. learning_rate: its peak. warmup: steps until the peak.
    ema: the decay of the averaged weights, which are the ones that are exported.
    muon: hidden weights are trained by Muon instead of AdamW. scenes: how many the corpus has.
    start_from: a bundle. A new run begins with its weights where names and shapes agree.
    compiled: the network is compiled first. That takes minutes and makes every step faster.
    workers: processes that draw batches ahead of time, where a recipe can; 0: they are drawn when needed.
    """

    steps: int
    learning_rate: float
    batch: int
    warmup: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999
    muon: bool = False
    minutes: float = 0.0
    scenes: int = 131_072
    start_from: Path | None = None
    compiled: bool = False
    workers: int = 0


def learning_rate_at(progress: float, step: int, config: RunConfig) -> float:
    """A linear warm-up, then constant, then a cosine down to zero.

    progress: the share of the run that is done, in [0, 1].
    """
    warm = min(1.0, (step + 1) / config.warmup)
    tail = max(0.0, min(1.0, (progress - CONSTANT_SHARE) / (1 - CONSTANT_SHARE)))
    return config.learning_rate * warm * 0.5 * (1 + torch.cos(torch.tensor(tail * torch.pi)).item())


class Run:
    """One training run: a model, its averaged weights (``ema``), its optimizer, and their checkpoint.

    The checkpoint is ``folder/NAME.checkpoint.pt``. A run goes on from it if it exists. RuntimeError is
    raised if it is of another network.
    """

    def __init__(self, name: str, model: nn.Module, config: RunConfig, folder: Path) -> None:
        self.name = name
        self.config = config
        self.path = folder / f"{name}.checkpoint.pt"
        if config.start_from:
            adopt(model, config.start_from / name)
        self.model = model.to(best_device())
        self._average = average_of(self.model, config.ema)
        if config.compiled:
            self.model.compile()
        self.optimizer = _optimizer(self.model, config)
        self.step = 0
        self.seconds = 0.0
        self.first_draw = first_draw(config.start_from / name) if config.start_from else 0
        if self.path.exists():
            self._restore()

    @property
    def ema(self) -> nn.Module:
        """The model with averaged weights."""
        return self._average.module

    @property
    def progress(self) -> float:
        """The share of the run that is done; a step may outlast the run, which makes it more than 1."""
        if self.config.minutes:
            return self.seconds / (self.config.minutes * 60)
        return self.step / self.config.steps

    def train(
        self, loss_of: Loss, *, every: float = 10.0, save_every: float = 180.0, sample: Sample | None = None
    ) -> nn.Module:
        """Run to the end and return the model with averaged weights.

        loss_of(model, draw) draws its own batch, number ``draw``. The numbers rise by one a step. They begin
        elsewhere for every bundle that a run starts from, so a run that goes on from weights draws pictures
        that these have not seen.
        every, save_every: seconds between progress lines, and between checkpoints.
        sample: called with the averaged model at each checkpoint, to leave pictures to look at.
        """
        self.model.train()
        shown = saved = time.monotonic()
        losses: list[torch.Tensor] = []
        while self.progress < 1.0:
            started = time.monotonic()
            losses.append(self._update(loss_of))
            now = time.monotonic()
            self.seconds += now - started
            if now - shown >= every or self.step == 1:
                self._show(losses, now - shown)
                losses.clear()
                shown = now
            if now - saved >= save_every:
                self._save_and_sample(sample)
                saved = time.monotonic()
        self._save_and_sample(sample)
        return self.ema

    def _update(self, loss_of: Loss) -> torch.Tensor:
        """One step. Returns its loss, without waiting for a GPU to have computed it."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.progress, self.step, self.config)
        loss = loss_of(self.model, self.first_draw + self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _show(self, losses: Sequence[torch.Tensor], seconds: float) -> None:
        done = min(1.0, self.progress)
        left = int(self.seconds * (1 - done) / max(done, 1e-6))
        loss = float(torch.stack([*losses]).mean())
        rate = len(losses) * self.config.batch / seconds
        console.print(
            f"{self.name}: {100 * done:5.1f} %  step {self.step}  loss {loss:.4f}  {rate:.0f} pictures/s  "
            f"ETA {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}",
            highlight=False,
        )

    def _save_and_sample(self, sample: Sample | None) -> None:
        self.save()
        if sample:
            sample(self.ema, self.step)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "first_draw": self.first_draw,
            "seconds": self.seconds,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def _restore(self) -> None:
        state = torch.load(self.path, map_location=best_device(), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.first_draw = state["first_draw"]
        self.seconds = state["seconds"]
        self._average.n_averaged.fill_(1 + self.step)  # the first weights, and one a step
        console.print(f"{self.name}: resumed at step {self.step}", highlight=False)


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights, of which the ones it has now are the first.

    The decay is n / (n + 9) after n weights, at most ``decay``, so the first ones are soon forgotten.
    """

    @torch.no_grad()
    def update(averaged: Weights, current: Weights, count: torch.Tensor | int) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, n / (n + 9)))

    average = AveragedModel(model, multi_avg_fn=update).requires_grad_(False)
    average.update_parameters(model)
    return average


def adopt(model: nn.Module, part: Path) -> None:
    """Copy into the model every weight of a bundle's part whose name and shape agree.

    Its other weights, and all of its buffers, stay as they are.
    """
    stored: dict[str, torch.Tensor] = {}
    for file in sorted(part.glob("*.safetensors")):
        stored |= load_file(file)
    known = {
        name: p for name, p in model.named_parameters() if name in stored and stored[name].shape == p.shape
    }
    with torch.no_grad():
        for name, parameter in known.items():
            parameter.copy_(stored[name])
    count = len(list(model.parameters()))
    console.print(f"{part.name}: {len(known)} of {count} weights from {part.parent}", highlight=False)


def first_draw(part: Path) -> int:
    """The number of the first batch of a run that starts from a bundle's part.

    It is made of the digest of the part's weights, and is below 2^31.
    """
    digests = [sha256(file) for file in sorted(part.glob("*.safetensors"))]
    return int(hashlib.sha256("".join(digests).encode()).hexdigest()[:8], 16) >> 1


def _optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer | MuonWithAdamW:
    if config.muon:
        return MuonWithAdamW(
            model, learning_rate=config.learning_rate, weight_decay=config.weight_decay, betas=config.betas
        )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
