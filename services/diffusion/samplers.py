"""Samplers as generators: they yield what they want evaluated, are sent predictions, and return the sample.

A generator holds one row's whole state, so rows of other step counts, samplers and seeds can share a batch.
Whoever runs the network collects one ``Evaluation`` from each row and sends each row its ``Prediction``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from services.diffusion.prediction import Prediction
from services.diffusion.schedule import Schedule

SamplerName = Literal["ancestral", "ddim", "dpm++2m"]


@dataclass(frozen=True)
class Evaluation:
    """One network evaluation for one row: the noisy sample x and its timestep."""

    x: Tensor
    t: int


Sampler = Generator[Evaluation, Prediction, Tensor]
Settle = Callable[[Tensor, int], Tensor]  # what becomes of a sample after a step: of it and its new timestep


def unsettled(x: Tensor, t: int) -> Tensor:
    """The sample stays as the step made it."""
    del t
    return x


def ancestral(
    schedule: Schedule,
    x: Tensor,
    timesteps: Sequence[int],
    generator: torch.Generator,
    settle: Settle = unsettled,
) -> Sampler:
    """unCLIP's own sampler: DDPM over spaced timesteps (arXiv 2006.11239, equation 7; ``UnCLIPScheduler``).

    The last step returns the mean, without noise (algorithm 2 there).
    """
    for t, previous in pairwise([*timesteps, -1]):
        prediction = yield Evaluation(x, t)
        now = schedule.at(t)
        before = schedule.at(previous)
        beta = 1 - now / before
        mean = (before**0.5 * beta * prediction.x0 + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - now)
        if previous < 0:
            return settle(mean, previous)
        posterior = max(beta * (1 - before) / (1 - now), 1e-20)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        x = settle(mean + _deviation(prediction.variance, beta, posterior) * noise, previous)
    return x


def _deviation(variance: Tensor | None, beta: float, posterior: float) -> Tensor | float:
    """The standard deviation of an ancestral step's noise.

    It is the posterior's, or lies between the posterior's and beta's where the network learns it
    (arXiv 2102.09672, equation 15).
    """
    if variance is None:
        return posterior**0.5
    share = (variance + 1) / 2
    return (0.5 * (share * math.log(beta) + (1 - share) * math.log(posterior))).exp()


def ddim(schedule: Schedule, x: Tensor, timesteps: Sequence[int], settle: Settle = unsettled) -> Sampler:
    """Deterministic DDIM (arXiv 2010.02502, equation 12 with sigma = 0)."""
    for t, previous in pairwise([*timesteps, -1]):
        x0 = (yield Evaluation(x, t)).x0
        now = schedule.at(t)
        before = schedule.at(previous)
        noise = (x - now**0.5 * x0) / (1 - now) ** 0.5
        x = settle(before**0.5 * x0 + (1 - before) ** 0.5 * noise, previous)
    return x


def dpm_solver_pp_2m(
    schedule: Schedule, x: Tensor, timesteps: Sequence[int], settle: Settle = unsettled
) -> Sampler:
    """DPM-Solver++(2M), multistep of second order (arXiv 2211.01095, algorithm 2).

    The steps to the last timestep and to the clean sample are of first order. Both are so long in log SNR
    that the multistep extrapolation overshoots (the authors' ``lower_order_final``).
    """
    last_x0: Tensor | None = None
    last_h = 0.0
    for t, previous in pairwise([*timesteps, -1]):
        x0 = (yield Evaluation(x, t)).x0
        if previous < 0:
            return settle(x0, previous)
        h = _half_log_snr(schedule.at(previous)) - _half_log_snr(schedule.at(t))
        direction = x0
        if last_x0 is not None and previous != timesteps[-1]:
            r = last_h / h
            direction = (1 + 1 / (2 * r)) * x0 - last_x0 / (2 * r)
        sigma_ratio = ((1 - schedule.at(previous)) / (1 - schedule.at(t))) ** 0.5
        x = settle(sigma_ratio * x - schedule.at(previous) ** 0.5 * math.expm1(-h) * direction, previous)
        last_x0 = x0
        last_h = h
    return x


def _half_log_snr(alpha_bar: float) -> float:
    """lambda = log(alpha / sigma)."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def make_sampler(
    name: SamplerName,
    schedule: Schedule,
    x: Tensor,
    timesteps: Sequence[int],
    generator: torch.Generator,
    settle: Settle = unsettled,
) -> Sampler:
    """The sampler of that name. ``generator`` is the row's own; deterministic samplers leave it alone."""
    if name == "ancestral":
        return ancestral(schedule, x, timesteps, generator, settle)
    return {"ddim": ddim, "dpm++2m": dpm_solver_pp_2m}[name](schedule, x, timesteps, settle)


def with_x0(sampler: Sampler, change: Callable[[Tensor], Tensor]) -> Sampler:
    """The sampler, but ``change`` is applied to every clean sample it is sent.

    So they are clipped, or known pixels put in place.
    """
    evaluation = next(sampler)
    while True:
        prediction = yield evaluation
        try:
            evaluation = sampler.send(replace(prediction, x0=change(prediction.x0)))
        except StopIteration as stop:
            return _returned(stop)


def run(sampler: Sampler, predict: Callable[[Evaluation], Prediction]) -> Tensor:
    """The sample of a sampler that shares no batch: ``predict`` makes each of its evaluations."""
    evaluation = next(sampler)
    while True:
        prediction = predict(evaluation)
        try:
            evaluation = sampler.send(prediction)
        except StopIteration as stop:
            return _returned(stop)


def _returned(stop: StopIteration) -> Tensor:
    sample: Tensor = stop.value
    return sample
