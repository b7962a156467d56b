"""Samplers against ``UnCLIPScheduler``, step by step, and against what their equations promise."""

from __future__ import annotations

import pytest
import torch
from diffusers import UnCLIPScheduler
from torch import Tensor

from services.diffusion.noise import generator_for
from services.diffusion.prediction import Prediction, PredictionName, to_x0
from services.diffusion.samplers import Evaluation, SamplerName, ancestral, make_sampler, run, with_x0
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


def reference_scheduler(prediction: PredictionName, learned_range: bool, steps: int) -> UnCLIPScheduler:
    """The reference in float64. In float32 it loses 5e-4, in 1 - abar_0, of which 1.5e-3 is rounding."""
    reference = UnCLIPScheduler(
        variance_type="learned_range" if learned_range else "fixed_small_log",
        prediction_type=prediction,
        clip_sample_range=5.0,
    )
    reference.set_timesteps(steps)
    reference.alphas_cumprod = SCHEDULE.alpha_bar
    reference.alphas = SCHEDULE.alpha_bar / torch.cat([torch.ones(1), SCHEDULE.alpha_bar[:-1]])
    reference.betas = 1 - reference.alphas
    return reference


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("learned_range", [False, True])
@pytest.mark.parametrize("steps", [3, 25])
def test_ancestral_matches_unclip_scheduler(
    prediction: PredictionName, learned_range: bool, steps: int
) -> None:
    reference = reference_scheduler(prediction, learned_range, steps)
    timesteps = spaced_timesteps(SCHEDULE, steps)
    outputs = iter(randn(steps, 6 if learned_range else 3, *SHAPE[1:], seed=1).tanh())
    theirs = randn(*SHAPE, seed=2)
    noise = torch.Generator().manual_seed(3)

    def predict(evaluation: Evaluation) -> Prediction:
        """Ours, after the reference took the same step."""
        nonlocal theirs
        assert (evaluation.x - theirs).abs().max().item() <= 1e-4
        output = next(outputs)
        t = evaluation.t
        following = timesteps[timesteps.index(t) + 1] if t else None
        step = reference.step(
            output[None], torch.tensor(t), theirs[None], prev_timestep=following, generator=noise
        )
        theirs = step.prev_sample[0]
        x0 = to_x0(output[:3], evaluation.x, SCHEDULE.at(t), prediction)
        return Prediction(x0, output[3:] if learned_range else None)

    sampler = ancestral(SCHEDULE, theirs, timesteps, torch.Generator().manual_seed(3))
    ours = run(with_x0(sampler, lambda x0: x0.clamp(-5, 5)), predict)
    assert (ours - theirs).abs().max().item() <= 1e-4


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("start", [0.5, 1.0])
def test_the_last_ancestral_step_adds_no_noise(steps: int, start: float) -> None:
    """Not even where the last timestep is not 0, as in a trajectory of one step."""
    timesteps = spaced_timesteps(SCHEDULE, steps, start=start)
    target = randn(*SHAPE, seed=4)
    variance = torch.ones(SHAPE, dtype=torch.float64)
    sampler = ancestral(SCHEDULE, randn(*SHAPE, seed=5), timesteps, torch.Generator())
    made = run(sampler, lambda evaluation: Prediction(target, variance))
    torch.testing.assert_close(made, target, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm++2m"])
def test_a_perfect_prediction_is_reached(name: SamplerName) -> None:
    target = randn(*SHAPE, seed=4)
    seen: list[Evaluation] = []

    def predict(evaluation: Evaluation) -> Prediction:
        seen.append(evaluation)
        return Prediction(target)

    timesteps = spaced_timesteps(SCHEDULE, 10)
    made = run(make_sampler(name, SCHEDULE, torch.randn(SHAPE), timesteps, torch.Generator()), predict)
    torch.testing.assert_close(made, target, rtol=1e-4, atol=1e-3)
    assert [evaluation.t for evaluation in seen] == timesteps
    assert all(evaluation.x.shape == SHAPE for evaluation in seen)


def test_dpm_solver_is_of_higher_order_than_ddim() -> None:
    """On a Gaussian, whose ideal denoiser is known: halving the step must cut the error more than twofold."""
    spread = 0.3

    def predict(evaluation: Evaluation) -> Prediction:
        level = SCHEDULE.at(evaluation.t)
        return Prediction(level**0.5 * spread**2 / (level * spread**2 + 1 - level) * evaluation.x)

    def sampled(name: SamplerName, steps: int) -> float:
        timesteps = [round(900 * i / (steps - 1)) for i in reversed(range(steps))]
        x = torch.full((1,), 1.5)
        return float(run(make_sampler(name, SCHEDULE, x, timesteps, torch.Generator()), predict))

    truth = sampled("ddim", 901)
    coarse = abs(sampled("dpm++2m", 10) - truth)
    fine = abs(sampled("dpm++2m", 20) - truth)
    assert fine < coarse / 2
    assert fine < abs(sampled("ddim", 20) - truth)


def test_a_later_start_skips_the_noisiest_steps() -> None:
    assert spaced_timesteps(SCHEDULE, 11, start=0.5) == spaced_timesteps(SCHEDULE, 11)[5:]
    assert spaced_timesteps(SCHEDULE, 11, start=0.0) == [0]
    assert [spaced_timesteps(SCHEDULE, steps, start=0.7)[0] for steps in (1, 2, 3, 30)] == [699] * 4
    lengths = [len(spaced_timesteps(SCHEDULE, 20, start=s / 10)) for s in range(11)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 20


def test_trailing_steps_begin_where_they_are_told_to_and_never_at_the_clean_end() -> None:
    schedule = make_schedule("cosine", spacing="trailing")
    assert spaced_timesteps(schedule, 4) == [999, 749, 499, 249]
    assert spaced_timesteps(schedule, 4, start=0.5) == [500, 249]
    assert spaced_timesteps(schedule, 4, start=0.7) == [699, 466, 232]
    assert [spaced_timesteps(schedule, 4, start=s)[0] for s in (0.9, 0.3, 0.1, 0.0)] == [899, 300, 100, 0]


def test_noise_belongs_to_seed_and_purpose() -> None:
    draw = [
        torch.randn(4, generator=generator_for(seed, purpose))
        for seed, purpose in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[3])
    generator_for(2**64 - 1, "prior", 3)
