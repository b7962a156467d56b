"""The training loop every stage shares: schedule, EMA, progress, checkpoints that survive an interruption."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from services.bundles.bundle import sha256
from services.training.optimizer import MuonWithAdamW

Loss = Callable[[nn.Module, int], torch.Tensor]  # of the model, on batch number so and so
console = Console()


@dataclass(frozen=True)
class Recipe:
    """How one stage is trained.

    steps: optimizer steps of the whole run; minutes: stop after that much training time instead, with the
    learning rate annealed to meet it (0: by steps alone); learning_rate: its peak; warmup: steps to reach it;
    ema: decay of the averaged weights that are exported;
    muon: whether hidden weights are trained by Muon instead of AdamW;
    scenes: size of the corpus; start_from: a bundle whose weights a fresh run begins with, where names and shapes agree;
    compiled: whether the network is compiled first, which takes minutes and makes every step faster.
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


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 autocast on the training device; master weights stay float32."""
    return torch.autocast(device().type, dtype=torch.bfloat16)


def learning_rate_at(progress: float, step: int, recipe: Recipe) -> float:
    """Linear warm-up, a constant half, then a cosine down to zero; ``progress`` in [0, 1] is the run's share done."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    tail = max(0.0, min(1.0, (progress - 0.4) / 0.6))
    return recipe.learning_rate * warm * 0.5 * (1 + torch.cos(torch.tensor(tail * torch.pi)).item())


def fast_attention() -> contextlib.AbstractContextManager[None]:
    """The attention kernel to train with: on a CPU, the flash kernel's backward is slower than plain products."""
    if device().type == "cuda":
        return contextlib.nullcontext()
    kernel: contextlib.AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return kernel


class Run:
    """One training run: a model, its EMA, its optimizer, and the checkpoint they survive in.

    Raises nothing for a missing checkpoint (a fresh start); a checkpoint of another shape is an error.
    """

    def __init__(self, name: str, model: nn.Module, recipe: Recipe, folder: Path) -> None:
        self.name, self.recipe, self.path = name, recipe, folder / f"{name}.checkpoint.pt"
        if recipe.start_from:
            adopt(model, recipe.start_from / name)
        self.model = model.to(device())
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        if recipe.compiled:
            self.model.compile()
        self.optimizer = _optimizer(self.model, recipe)
        self.step, self.seconds = 0, 0.0
        self.first_draw = draws_of(recipe.start_from / name) if recipe.start_from else 0
        if self.path.exists():
            self._restore()

    @property
    def progress(self) -> float:
        """The share of the run that is done, by steps or by time, whichever is further."""
        by_time = self.seconds / (self.recipe.minutes * 60) if self.recipe.minutes else 0.0
        return max(self.step / self.recipe.steps, by_time)

    def train(
        self,
        loss_of: Loss,
        *,
        every: float = 20.0,
        save_every: float = 180.0,
        sample: Callable[[nn.Module, int], None] | None = None,
    ) -> nn.Module:
        """Run to the end and return the EMA weights.

        loss_of(model, draw) draws its own batch, number ``draw``: numbers rise by one a step, and begin elsewhere for
        every bundle that a run starts from, so that going on from weights brings pictures they have not seen;
        ``every`` and ``save_every`` are seconds between progress lines and checkpoints; ``sample`` is called with the
        EMA at each checkpoint, to leave pictures to look at.
        """
        shown, saved, loss_sum, count = time.monotonic(), time.monotonic(), 0.0, 0
        self.model.train()
        while self.progress < 1.0:
            started = time.monotonic()
            loss_sum, count = loss_sum + self._update(loss_of), count + 1
            now = time.monotonic()
            self.seconds += now - started
            if now - shown >= every or (count == 1 and self.step == 1):
                self._show(loss_sum / count, count * self.recipe.batch / (now - shown))
                shown, loss_sum, count = now, 0.0, 0
            if now - saved >= save_every:
                self.save()
                if sample:
                    sample(self.ema, self.step)
                saved = time.monotonic()
        self.save()
        if sample:
            sample(self.ema, self.step)
        return self.ema

    def _update(self, loss_of: Loss) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.progress, self.step, self.recipe)
        loss = loss_of(self.model, self.first_draw + self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        pairs = list(zip(self.ema.parameters(), self.model.parameters(), strict=True))
        torch._foreach_lerp_([e for e, _ in pairs], [p.detach() for _, p in pairs], 1 - decay)

    def _show(self, loss: float, rate: float) -> None:
        done = min(1.0, self.progress)  # a step may outlast the run
        left = self.seconds * (1 - done) / max(done, 1e-6)
        console.print(
            f"{self.name}: {100 * done:5.1f} %  step {self.step}  loss {loss:.4f}  {rate:.0f} pictures/s  "
            f"ETA {int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d}",
            highlight=False,
        )

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
        state = torch.load(self.path, map_location=device(), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.first_draw, self.seconds = state["step"], state["first_draw"], state["seconds"]
        console.print(f"{self.name}: resumed at step {self.step}", highlight=False)


def adopt(model: nn.Module, part: Path) -> None:
    """Start from a bundle's part: copy every weight whose name and shape agree; the rest, and all buffers, stay."""
    stored = {
        name: value for file in sorted(part.glob("*.safetensors")) for name, value in load_file(file).items()
    }
    known = {
        name: p for name, p in model.named_parameters() if name in stored and stored[name].shape == p.shape
    }
    with torch.no_grad():
        for name, parameter in known.items():
            parameter.copy_(stored[name])
    console.print(
        f"{part.name}: {len(known)} of {len(list(model.parameters()))} weights from {part.parent}",
        highlight=False,
    )


def draws_of(part: Path) -> int:
    """The number of the first batch that a run from a bundle's part draws: its weights' digest, below 2^31."""
    digests = [sha256(file) for file in sorted(part.glob("*.safetensors"))]
    return int(hashlib.sha256("".join(digests).encode()).hexdigest()[:8], 16) >> 1


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer | MuonWithAdamW:
    if recipe.muon:
        return MuonWithAdamW(
            model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=recipe.betas
        )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode without gradients, and back to how it was."""
    was = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(was)
