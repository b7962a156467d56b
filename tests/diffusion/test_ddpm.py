"""Ancestral steps as Kandinsky's scheduler takes them: against ``DDPMScheduler``, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from services.diffusion.config import DiffusionConfig, Threshold
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import Evaluation, ancestral, run, with_x0
from services.diffusion.schedule import Spacing, make_schedule, spaced_timesteps
from tests.closeness import assert_within

SHAPE = (4, 8, 8)
BETAS = (0.00085, 0.012)


def reference(spacing: Spacing, offset: int = 0, **more: Any) -> DDPMScheduler:
    """In float64, on our schedule."""
    scheduler = DDPMScheduler(
        beta_schedule="linear",
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        timestep_spacing=spacing,
        steps_offset=offset,
        **more,
    )
    ours = make_schedule("linear", betas=BETAS).alpha_bar
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), ours, rtol=1e-4, atol=1e-7)
    scheduler.alphas_cumprod = ours
    scheduler.one = torch.ones((), dtype=torch.float64)
    return scheduler


@pytest.mark.parametrize("steps", [1, 5, 7, 25, 50, 100])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0)])
def test_timesteps_are_the_references(spacing: Spacing, offset: int, steps: int) -> None:
    scheduler = reference(spacing, offset)
    scheduler.set_timesteps(steps)
    schedule = make_schedule("linear", betas=BETAS, spacing=spacing, offset=offset)
    assert spaced_timesteps(schedule, steps) == scheduler.timesteps.tolist()


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [5, 7, 25, 50, 100])
@pytest.mark.parametrize("threshold", [None, Threshold(quantile=0.995, most=2.0)])
def test_ancestral_matches_ddpm_scheduler(threshold: Threshold | None, steps: int) -> None:
    config = DiffusionConfig(
        schedule="linear",
        betas=BETAS,
        spacing="leading",
        prediction="epsilon",
        learned_range=True,
        clip=None,
        threshold=threshold,
    )
    more: dict[str, Any] = {"thresholding": True, "sample_max_value": 2.0} if threshold else {}
    scheduler = reference("leading", variance_type="learned_range", clip_sample=False, **more)
    scheduler.set_timesteps(steps)
    outputs = 0.5 * randn(steps, 8, *SHAPE[1:], seed=1)
    theirs = randn(1, *SHAPE, seed=2)
    noise = torch.Generator().manual_seed(3)
    for t, output in zip(scheduler.timesteps, outputs, strict=True):
        theirs = scheduler.step(output[None], t, theirs, generator=noise).prev_sample
    schedule = config.make_schedule()
    given = iter(outputs)

    def predict(evaluation: Evaluation) -> Prediction:
        mean, variance = next(given).split(4)
        x0 = to_x0(mean, evaluation.x, schedule.at(evaluation.t), config.prediction)
        return Prediction(x0, variance)

    generator = torch.Generator().manual_seed(3)
    trajectory = ancestral(schedule, randn(*SHAPE, seed=2), spaced_timesteps(schedule, steps), generator)
    ours = run(with_x0(trajectory, config.bounded), predict)
    assert_within(ours, theirs[0], 1e-5, relative=True)
