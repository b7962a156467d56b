"""What one picture is to be, and the row that becomes it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.diffusion.row import Row
from services.diffusion.samplers import Sampler


@dataclass(frozen=True)
class Picture:
    """Pixels in [-1, 1], (3, S, S), and where they apply, (1, S, S) in [0, 1].

    S is the size of what is made.
    """

    pixels: Tensor
    keep: Tensor


@dataclass(frozen=True)
class DecoderTask:
    """What one picture is to be: its conditioning, its seed, how it is sampled, and what is already there.

    context, unconditional: projected conditioning, as ``DecoderSampler.project`` makes it; upsampler_steps:
    of each upsampler; size: of the picture in px; known: pixels to keep; start: a picture (3, size, size) to
    stay near to, as much as ``similarity`` in [0, 1] says.
    """

    context: tuple[Tensor, Tensor, Tensor]
    unconditional: tuple[Tensor, Tensor, Tensor]
    seed: int
    steps: int
    guidance: float
    upsampler_steps: int
    size: int
    known: Picture | None = None
    start: Tensor | None = None
    similarity: float = 0.0


class DecoderRow(Row[DecoderTask]):
    """One picture being made.

    ``base_steps`` of its steps are the base network's, the rest the upsamplers'.
    """

    def __init__(self, network: str, task: DecoderTask, base_steps: int, upsampler_steps: int) -> None:
        super().__init__(network, task, task.guidance, base_steps + upsampler_steps)
        self.base_steps = base_steps
        self.x0: Tensor | None = None  # the clean sample so far
        self.low: Tensor | None = None
        self.known: Tensor | None = None

    def ending_in(self, network: str, steps: int, sampler: Sampler) -> Sampler:
        """The sampler, whose last evaluation another network makes. steps: all of its evaluations."""
        evaluation = next(sampler)
        for step in range(1, steps + 1):
            if step == steps:
                self.network = network
            prediction = yield evaluation
            try:
                evaluation = sampler.send(prediction)
            except StopIteration as stop:
                sample: Tensor = stop.value
                return sample
        raise AssertionError("a sampler ends with its last evaluation")
