"""One picture on its way through the stages: its seed and options, its clock, and whom to tell."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway import metrics
from gateway.stages import Budget, task_message
from services.editing.pictures import Pixels
from unclip.internal.v1 import sampling_pb2

SEEDS = 2**64
# An odd constant (the golden ratio's, as in splitmix64) keeps the seeds of a picture's frames apart from its neighbours'.
FRAME_STRIDE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Options:
    """How to sample, every default filled in."""

    n: int
    seed: int
    prior_steps: int
    prior_guidance: float
    decoder_steps: int
    decoder_guidance: float
    upsampler_steps: int
    prior_candidates: int
    preview_interval: int


@dataclass(frozen=True)
class Queued:
    """The picture waits for a place in a stage."""

    stage: str
    position: int


@dataclass(frozen=True)
class Progressed:
    """A stage has done ``step`` of ``steps``."""

    stage: str
    step: int
    steps: int


@dataclass(frozen=True)
class Previewed:
    """What the decoder thinks the picture will be, (s, s, 3)."""

    pixels: Pixels


@dataclass(frozen=True)
class Made:
    """A finished picture, (H, W, 3), the seed that makes it again, and seconds by stage."""

    pixels: Pixels
    seed: int
    seconds: dict[str, float]


Event = Queued | Progressed | Previewed | Made
Report = Callable[[int, Event], None]


@dataclass(frozen=True)
class Sample:
    """Picture number ``index`` of a request."""

    index: int
    seed: int
    options: Options
    budget: Budget
    report: Report
    seconds: dict[str, float] = field(default_factory=dict)

    def task(self, steps: int, guidance: float) -> sampling_pb2.SamplingTask:
        """What a sampling stage is told of this picture."""
        return task_message(self.seed, steps, guidance, self.budget)

    def for_frame(self, number: int) -> Sample:
        """The same picture with another seed, for frame ``number`` of a large canvas; frame 0 keeps the seed."""
        return replace(self, seed=(self.seed + number * FRAME_STRIDE) % SEEDS)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's duration to the stage's time."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started

    def queued(self, stage: str, position: int) -> None:
        """Tell that the picture waits."""
        self.report(self.index, Queued(stage, position))

    def progressed(self, stage: str, step: int, steps: int) -> None:
        """Tell how far a stage is."""
        self.report(self.index, Progressed(stage, step, steps))

    def previewed(self, pixels: Pixels) -> None:
        """Show what it looks like so far."""
        self.report(self.index, Previewed(pixels))


async def sample_all(
    make: Callable[[Sample], Awaitable[Pixels]],
    options: Options,
    budget: Budget,
    report: Report,
    shared: dict[str, float],
) -> list[Made]:
    """Make a request's pictures side by side; the first error cancels the others. ``shared``: seconds spent for all."""

    async def one(sample: Sample) -> Made:
        pixels = await make(sample)
        made = Made(pixels, sample.seed, {**shared, **sample.seconds})
        for stage, seconds in made.seconds.items():
            metrics.stage_seconds.labels(stage).observe(seconds)
        report(sample.index, made)
        return made

    samples = [Sample(i, (options.seed + i) % SEEDS, options, budget, report) for i in range(options.n)]
    return await all_or_none([one(sample) for sample in samples])


async def all_or_none(work: Sequence[Any]) -> list[Made]:
    """Await everything; if one fails, cancel the rest, wait for them to have gone, and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
