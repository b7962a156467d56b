"""The training loop: it learns, and an interruption costs nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from services.training.loop import Run, RunConfig, average_of, learning_rate_at

CONFIG = RunConfig(steps=60, learning_rate=0.05, batch=8, warmup=5, ema=0.9, weight_decay=0.0)


def loss_of(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    loss: Tensor = (model(x) - x.sum(1, keepdim=True)).square().mean()
    return loss


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_it_learns(tmp_path: Path) -> None:
    trained = Run("line", model(), CONFIG, tmp_path).train(loss_of)
    assert loss_of(trained, 999).item() < 0.1 * loss_of(model(), 999).item()


def test_an_interrupted_run_ends_where_it_would_have(tmp_path: Path) -> None:
    whole = Run("line", model(), CONFIG, tmp_path / "whole").train(loss_of)
    stops: list[int] = []

    def interrupt(model: nn.Module, step: int) -> Tensor:
        if step == 25 and not stops:
            stops.append(step)
            raise KeyboardInterrupt
        return loss_of(model, step)

    first = Run("line", model(), CONFIG, tmp_path / "parts")
    try:
        first.train(interrupt)
    except KeyboardInterrupt:
        first.save()
    resumed = Run("line", model(), CONFIG, tmp_path / "parts")
    assert resumed.step == 25
    parts = resumed.train(loss_of)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_are_averaged_by_a_decay_that_rises_to_the_given_one() -> None:
    net = model()
    average = average_of(net, 0.5)
    wanted = [parameter.detach().clone() for parameter in net.parameters()]
    for step in range(20):
        with torch.no_grad():
            for parameter, own in zip(net.parameters(), wanted, strict=True):
                parameter.add_(0.1 * (step + 1))
                own.lerp_(parameter, 1 - min(0.5, (1 + step) / (10 + step)))
        average.update_parameters(net)
    for parameter, own in zip(average.module.parameters(), wanted, strict=True):
        assert torch.equal(parameter, own)


def test_a_checkpoint_has_the_averaged_weights_under_the_models_own_names(tmp_path: Path) -> None:
    """As it had before the average was torch's own, so older checkpoints load."""
    run = Run("line", model(), CONFIG, tmp_path)
    run.train(loss_of)
    state = torch.load(run.path, weights_only=True)
    assert set(state) == {"model", "ema", "optimizer", "step", "first_draw", "seconds"}
    assert set(state["ema"]) == set(state["model"]) == {"weight", "bias"}


def test_minutes_are_instead_of_steps(tmp_path: Path) -> None:
    few = Run("line", model(), replace(CONFIG, steps=2, minutes=0.3 / 60), tmp_path / "few")
    few.train(loss_of)
    assert few.step > 2
    assert few.seconds >= 0.3
    many = Run("line", model(), replace(CONFIG, steps=10**9, minutes=0.3 / 60), tmp_path / "many")
    many.train(loss_of)
    assert 0.3 <= many.seconds < 3


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    Run("line", model(), CONFIG, tmp_path).train(loss_of)

    def fail(model: nn.Module, step: int) -> Tensor:
        raise AssertionError("trained again")

    Run("line", model(), CONFIG, tmp_path).train(fail)


def test_the_learning_rate_warms_up_holds_and_falls_to_zero() -> None:
    config = replace(CONFIG, warmup=10)
    assert learning_rate_at(0.0, 0, config) == 0.1 * config.learning_rate
    assert learning_rate_at(0.3, 100, config) == config.learning_rate
    assert learning_rate_at(1.0, 100, config) < 1e-6 * config.learning_rate


def test_a_run_that_starts_from_weights_draws_batches_they_have_not_seen_and_keeps_to_them(
    tmp_path: Path,
) -> None:
    part = tmp_path / "bundle/line"
    part.mkdir(parents=True)
    save_file(model().state_dict(), part / "model.safetensors")
    draws: list[int] = []

    def noted(model: nn.Module, draw: int) -> Tensor:
        draws.append(draw)
        return loss_of(model, draw)

    Run("line", model(), replace(CONFIG, steps=2, start_from=tmp_path / "bundle"), tmp_path).train(noted)
    Run("line", model(), replace(CONFIG, steps=3), tmp_path).train(noted)
    assert draws == [draws[0], draws[0] + 1, draws[0] + 2]
    assert draws[0] > 1_000


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs a C++ compiler")
def test_a_compiled_run_learns_the_same(tmp_path: Path) -> None:
    plain = Run("line", model(), replace(CONFIG, steps=5), tmp_path / "plain").train(loss_of)
    compiled = Run("line", model(), replace(CONFIG, steps=5, compiled=True), tmp_path / "compiled")
    assert compiled.model._compiled_call_impl is not None
    for a, b in zip(plain.parameters(), compiled.train(loss_of).parameters(), strict=True):
        torch.testing.assert_close(a, b)
