"""A row: one sample being denoised, in the form the step engine works with."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

from torch import Tensor

from services.diffusion.prediction import Prediction
from services.diffusion.samplers import Evaluation

Conditioning = TypeVar("Conditioning")


class Row(Generic[Conditioning]):
    """A generator of evaluations, run one step at a time, with what its network is conditioned on.

    life: yields evaluations and returns the final sample; it may set ``network`` when it goes on to another one,
    and rows of one network share a batch. steps: evaluations in all.
    """

    def __init__(self, network: str, conditioning: Conditioning, guidance: float, steps: int) -> None:
        self.network, self.conditioning, self.guidance = network, conditioning, guidance
        self.step, self.steps = 0, steps
        self.result: Tensor | None = None
        self.pending: Evaluation | None = None
        self._life: Generator[Evaluation, Prediction, Tensor] | None = None

    def start(self, life: Generator[Evaluation, Prediction, Tensor]) -> None:
        """Give the row its life, up to the first evaluation it wants."""
        self._life = life
        self.pending = next(life)

    @property
    def key(self) -> str:
        """Rows of equal key may share a batch."""
        return self.network

    @property
    def evaluation(self) -> Evaluation:
        """What the row wants evaluated next. Only a row that is not finished has one."""
        assert self.pending is not None
        return self.pending

    @property
    def finished(self) -> bool:
        """Whether ``result`` is there."""
        return self.result is not None

    def advance(self, prediction: Prediction) -> None:
        """Take one step with what the network predicted for the pending evaluation."""
        assert self._life is not None
        self.step += 1
        try:
            self.pending = self._life.send(prediction)
        except StopIteration as stop:
            self.result, self.pending = stop.value, None
