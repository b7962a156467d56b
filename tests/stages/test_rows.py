"""A row's picture depends on its own request alone, whatever shares its batches. With the shipped bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.decoder.sampler import BASE, UPSAMPLERS, DecoderSampler
from services.decoder.settings import Settings
from services.decoder.stage import DecoderStage
from services.decoder.tasks import DecoderRow, DecoderTask, Picture
from services.diffusion.lanes import Lanes
from services.prior.sampler import PriorRow, PriorSampler, Text

CALL_SIZES = (1, 2, 3, 4, 5, 6, 7, 8)  # as in deploy/serve


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderSampler]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    lanes = Lanes(2)
    assert lanes.count == 2
    yield DecoderSampler(
        Bundle("models", BASE, UPSAMPLERS), call_sizes=CALL_SIZES, upsampler_call_sizes=(1, 2), lanes=lanes
    )
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prior() -> PriorSampler:
    return PriorSampler(Bundle("models", "prior"), call_sizes=(2, 4, 6, 8))


def text(seed: int, sampler: DecoderSampler | PriorSampler) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = (
        torch.randn(192, generator=generator),
        torch.randn(32, 192, generator=generator),
        torch.arange(32) < 5 + seed % 20,
    )
    return parts[0].to(sampler.device), parts[1].to(sampler.device), parts[2].to(sampler.device)


def task(sampler: DecoderSampler, seed: int, **given: object) -> DecoderTask:
    image = torch.randn(192, generator=torch.Generator().manual_seed(seed)).to(sampler.device)
    fields = {"seed": seed, "steps": 3, "guidance": 2.0, "upsampler_steps": 2, "size": 64, **given}
    contexts = sampler.project(image, *text(seed, sampler)), sampler.project(None, *text(0, sampler))
    return DecoderTask(*contexts, **fields)  # type: ignore[arg-type]


def run(sampler: DecoderSampler, rows: list[DecoderRow]) -> list[Tensor]:
    while running := [row for row in rows if not row.finished]:
        sampler.advance([row for row in running if row.network == running[0].network])
    return [row.result for row in rows if row.result is not None]


def test_pictures_are_the_same_alone_and_in_company(decoder: DecoderSampler) -> None:
    tasks = [
        task(decoder, 1),
        task(decoder, 2, steps=5, guidance=1.0),
        task(decoder, 3, guidance=4.0, size=256),
        task(decoder, 4, size=256),
    ]
    tasks += [
        replace(t, seed=seed, steps=14, guidance=1.0) for seed, t in zip((8, 9), tasks[:2], strict=True)
    ]
    alone = [run(decoder, [decoder.start(t)])[0] for t in tasks]
    together = run(decoder, [decoder.start(t) for t in tasks])
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
    assert [tuple(p.shape) for p in together] == [
        (3, 64, 64),
        (3, 64, 64),
        (3, 256, 256),
        (3, 256, 256),
        (3, 64, 64),
        (3, 64, 64),
    ]


def test_embeddings_are_the_same_alone_and_in_company(prior: PriorSampler) -> None:
    def start(seed: int) -> PriorRow:
        conditioning = prior.project(Text(*text(seed, prior)), Text(*text(0, prior)))
        return prior.start(
            conditioning, seed=seed, candidate=seed % 3, steps=3 + seed % 4, guidance=1.0 + seed % 2
        )

    def finish(rows: list[PriorRow]) -> list[Tensor]:
        while running := [row for row in rows if not row.finished]:
            prior.advance(running)
        return [row.result for row in rows if row.result is not None]

    alone = [finish([start(seed)])[0] for seed in range(1, 8)]
    together = finish([start(seed) for seed in reversed(range(1, 8))])[::-1]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_the_known_region_is_imposed_at_every_step(decoder: DecoderSampler) -> None:
    for size in decoder.sizes:
        pixels = torch.full((3, size, size), 0.5)
        keep = torch.zeros(1, size, size)
        keep[:, : size // 2] = 1
        result = run(decoder, [decoder.start(task(decoder, 5, size=size, known=Picture(pixels, keep)))])[0]
        torch.testing.assert_close(result[:, : size // 2], torch.full((3, size // 2, size), 0.5))
        assert result[:, size // 2 :].std() > 0


def test_more_similar_variations_take_fewer_steps_and_stay_nearer(decoder: DecoderSampler) -> None:
    ramp = torch.linspace(-1, 1, 64).expand(3, 64, 64).contiguous()
    distances = []
    steps = []
    for similarity in (0.0, 0.5, 0.95):
        row = decoder.start(task(decoder, 6, steps=12, start=ramp, similarity=similarity))
        steps.append(row.steps)
        distances.append(float((run(decoder, [row])[0] - ramp).abs().mean()))
    assert steps == sorted(steps, reverse=True)
    assert distances[0] > distances[1] > distances[2]


def test_every_upsampler_on_the_way_to_the_size_runs(decoder: DecoderSampler) -> None:
    rows = [decoder.start(task(decoder, 5, size=size)) for size in decoder.sizes]
    assert [row.steps for row in rows] == [3 + 2 * i for i in range(len(decoder.sizes))]
    assert [tuple(picture.shape) for picture in run(decoder, rows)] == [
        (3, size, size) for size in decoder.sizes
    ]


def test_seeds_make_different_pictures(decoder: DecoderSampler) -> None:
    first, second = (
        run(decoder, [decoder.start(replace(task(decoder, 7), seed=seed))])[0] for seed in (1, 2)
    )
    assert np.abs((first - second).numpy()).mean() > 0.01


def test_the_share_of_guided_steps_that_is_told_is_what_a_row_takes() -> None:
    stage = DecoderStage(Settings(bundle="models"))
    defaults = stage.describe().defaults
    plan = stage.sampler.plan(
        steps=defaults.steps,
        guidance=defaults.guidance,
        upsampler_steps=defaults.upsampler_steps,
        shape=(64, 64),
        similarity=0.0,
        context=32,
        edits=False,
    )
    taken = sum(segment.steps * segment.evaluations for segment in plan)
    assert defaults.steps < taken < 2 * defaults.steps
    assert defaults.steps * (1 + defaults.guided_share) == pytest.approx(taken)
