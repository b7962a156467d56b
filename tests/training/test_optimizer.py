"""Muon on a U-Net's hidden weights: it trains them in place, and a checkpoint of it goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from services.training.loop import Run, RunConfig
from services.training.optimizer import MuonWithAdamW
from services.training.recipes.export import save_weights

CONFIG = RunConfig(steps=80, learning_rate=0.02, batch=8, warmup=5, ema=0.9, weight_decay=0.0, muon=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(1, 8, 3, padding=1)
        self.hidden = nn.Conv2d(8, 8, 3, padding=1)
        self.conv_out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.hidden(self.conv_in(x).relu()).relu())


def model() -> Net:
    torch.manual_seed(0)
    return Net().to(memory_format=torch.channels_last)


def loss_of(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(step))
    loss: Tensor = (model(x) - x.roll(1, 3)).square().mean()
    return loss


def test_hidden_weights_move_by_orthogonal_updates() -> None:
    net = model()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = MuonWithAdamW(net, learning_rate=0.02, weight_decay=0.0, betas=(0.9, 0.99))
    loss_of(net, 0).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {name: (p.detach() - before[name]) for name, p in net.named_parameters()}
    assert all(change.abs().max() > 0 for change in moved.values())
    singular = torch.linalg.svdvals(moved["hidden.weight"].flatten(1))
    assert singular.min() > 0.3 * singular.max()
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_it_learns_and_resumes(tmp_path: Path) -> None:
    whole = Run("net", model(), CONFIG, tmp_path / "whole").train(loss_of)
    assert loss_of(whole, 999).item() < 0.5 * loss_of(model(), 999).item()
    half = Run("net", model(), CONFIG, tmp_path / "half")
    while half.step < 40:
        half._update(loss_of)
    half.save()
    resumed = Run("net", model(), CONFIG, tmp_path / "half")
    assert resumed.step == 40
    for a, b in zip(whole.parameters(), resumed.train(loss_of).parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_run_may_start_from_a_bundle(tmp_path: Path) -> None:
    taught = Run("net", model(), CONFIG, tmp_path / "first").train(loss_of)
    save_weights(taught, tmp_path / "bundle/net")
    started = Run("net", model(), replace(CONFIG, start_from=tmp_path / "bundle"), tmp_path / "second")
    assert loss_of(started.model, 999).item() < 0.5 * loss_of(model(), 999).item()
