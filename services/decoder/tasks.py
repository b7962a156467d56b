"""What one picture is to be, and the row that becomes it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.diffusion.row import Row
from services.diffusion.samplers import Sampler

Shape = tuple[int, int]  # height and width
MAX_START_SHARE = 0.96  # of the noise that similarity 0 begins with; see ``starting_level``


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
    of each upsampler; size: the picture's height in px; width: if it is another; known: pixels of a square to
    keep; start: a picture (3, height, width) to stay near to, as much as ``similarity`` in [0, 1] says.
    """

    context: tuple[Tensor, Tensor, Tensor]
    unconditional: tuple[Tensor, Tensor, Tensor]
    seed: int
    steps: int
    guidance: float
    upsampler_steps: int
    size: int
    width: int = 0
    known: Picture | None = None
    start: Tensor | None = None
    similarity: float = 0.0

    @property
    def shape(self) -> Shape:
        """Height and width in px."""
        return self.size, self.width or self.size


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


def starting_level(similarity: float) -> float:
    """Where on the schedule a row begins. 1 is pure noise; the more similar to a starting picture, the less.

    Linear in timesteps, as SDEdit's (arXiv 2108.01073) noise level is chosen. Tried instead: DDIM inversion
    of the picture (arXiv 2204.06125, section 3.1), a share of whose noise is drawn anew. At equal variety of
    the results it keeps less of the layout, and it costs a way up and all steps down.
    """
    return MAX_START_SHARE * (1 - similarity) if similarity > 0 else 1.0
