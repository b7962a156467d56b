"""A row: one sample being denoised, in the form the step engine works with."""

from __future__ import annotations

from typing import Generic, TypeVar

from torch import Tensor

from services.diffusion.prediction import Prediction
from services.diffusion.samplers import Evaluation, Sampler

Conditioning = TypeVar("Conditioning")


class Row(Generic[Conditioning]):
    """A sampler that is run one step at a time, with what its network is conditioned on.

    network: the one that evaluates the row next; rows of one network may share a batch. A trajectory sets it
    when it goes on to another network. steps: evaluations in all.
    """

    def __init__(self, network: str, conditioning: Conditioning, guidance: float, steps: int) -> None:
        self.network = network
        self.conditioning = conditioning
        self.guidance = guidance
        self.step = 0
        self.steps = steps
        self.result: Tensor | None = None
        self.pending: Evaluation | None = None
        self._trajectory: Sampler | None = None

    def start(self, trajectory: Sampler) -> None:
        """Run the trajectory up to the first evaluation it wants."""
        self._trajectory = trajectory
        self.pending = next(trajectory)

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
        assert self._trajectory is not None
        self.step += 1
        try:
            self.pending = self._trajectory.send(prediction)
        except StopIteration as stop:
            self.result = stop.value
            self.pending = None
