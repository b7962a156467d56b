"""Samplers against ``UnCLIPScheduler``, step by step, and against what their equations promise."""

from __future__ import annotations

import pytest
import torch
from diffusers import UnCLIPScheduler

from services.diffusion.noise import generator_for
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import SamplerName, ancestral, make_sampler, with_x0
from services.diffusion.schedule import make_schedule, spaced_timesteps

SCHEDULE = make_schedule("cosine")
SHAPE = (3, 8, 8)


@pytest.mark.parametrize("steps", [2, 7, 25])
def test_timesteps_are_the_references(steps: int) -> None:
    reference = UnCLIPScheduler()
    reference.set_timesteps(steps)
    assert spaced_timesteps(SCHEDULE, steps) == reference.timesteps.tolist()


def test_cosine_schedule_is_the_references() -> None:
    torch.testing.assert_close(
        SCHEDULE.alpha_bar.float(), UnCLIPScheduler().alphas_cumprod.float(), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("learned_range", [False, True])
@pytest.mark.parametrize("steps", [3, 25])
def test_ancestral_matches_unclip_scheduler(prediction: str, learned_range: bool, steps: int) -> None:
    reference = UnCLIPScheduler(
        variance_type="learned_range" if learned_range else "fixed_small_log",
        prediction_type=prediction,
        clip_sample_range=5.0,
    )
    reference.set_timesteps(steps)
    # In float32 the reference loses 5e-4 where it computes 1 - abar_0 (1.5e-3 of it is rounding): compared in float64.
    reference.alphas_cumprod = SCHEDULE.alpha_bar
    reference.alphas = SCHEDULE.alpha_bar / torch.cat([torch.ones(1), SCHEDULE.alpha_bar[:-1]])
    reference.betas = 1 - reference.alphas
    timesteps = spaced_timesteps(SCHEDULE, steps)
    outputs = torch.randn(
        (steps, 6 if learned_range else 3, *SHAPE[1:]), generator=torch.Generator().manual_seed(1)
    ).tanh()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    outputs = outputs.double()
    noise = torch.Generator().manual_seed(3)
    sampler = with_x0(
        ancestral(SCHEDULE, x, timesteps, torch.Generator().manual_seed(3)), lambda x0: x0.clamp(-5, 5)
    )
    evaluation = next(sampler)
    for i, t in enumerate(timesteps):
        previous = timesteps[i + 1] if i + 1 < steps else None
        x = reference.step(
            outputs[i][None], torch.tensor(t), x[None], prev_timestep=previous, generator=noise
        ).prev_sample[0]
        variance = outputs[i][3:] if learned_range else None
        own = to_x0(
            outputs[i][:3], evaluation.x, SCHEDULE.at(t), "epsilon" if prediction == "epsilon" else "sample"
        )
        try:
            evaluation = sampler.send(Prediction(own, variance))
            ours = evaluation.x
        except StopIteration as stop:
            ours = stop.value
        assert (ours - x).abs().max().item() <= 1e-4


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm++2m"])
def test_a_perfect_prediction_is_reached(name: SamplerName) -> None:
    target = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    sampler = make_sampler(
        name, SCHEDULE, torch.randn(SHAPE), spaced_timesteps(SCHEDULE, 10), torch.Generator()
    )
    evaluation, steps = next(sampler), 0
    while True:
        steps += 1
        try:
            evaluation = sampler.send(Prediction(target))
        except StopIteration as stop:
            torch.testing.assert_close(stop.value, target, rtol=1e-4, atol=1e-3)
            break
        assert evaluation.x.shape == SHAPE
    assert steps == 10


def test_dpm_solver_is_of_higher_order_than_ddim() -> None:
    """On a Gaussian, whose ideal denoiser is known: halving the step must cut the error more than twofold."""
    spread = 0.3

    def error(name: SamplerName, steps: int) -> float:
        x = torch.full((1,), 1.5)
        timesteps = [round(900 * i / (steps - 1)) for i in reversed(range(steps))]
        sampler = make_sampler(name, SCHEDULE, x, timesteps, torch.Generator())
        evaluation = next(sampler)
        while True:
            now = SCHEDULE.at(evaluation.t)
            x0 = now**0.5 * spread**2 / (now * spread**2 + 1 - now) * evaluation.x
            try:
                evaluation = sampler.send(Prediction(x0))
            except StopIteration as stop:
                return float(stop.value)

    truth = error("ddim", 901)
    coarse, fine = (abs(error("dpm++2m", n) - truth) for n in (10, 20))
    assert fine < coarse
    assert abs(error("dpm++2m", 20) - truth) < abs(error("ddim", 20) - truth)


def test_a_later_start_skips_the_noisiest_steps() -> None:
    assert spaced_timesteps(SCHEDULE, 11, start=0.5) == spaced_timesteps(SCHEDULE, 11)[5:]
    assert spaced_timesteps(SCHEDULE, 11, start=0.0) == [0]
    assert [spaced_timesteps(SCHEDULE, steps, start=0.7)[0] for steps in (1, 2, 3, 30)] == [699] * 4
    lengths = [len(spaced_timesteps(SCHEDULE, 20, start=s / 10)) for s in range(11)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 20


def test_noise_belongs_to_seed_and_purpose() -> None:
    draw = [
        torch.randn(4, generator=generator_for(seed, purpose))
        for seed, purpose in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[3])
    generator_for(2**64 - 1, "prior", 3)
