"""What all flows have in common: how to sample, the request's id, and the text they start from."""

from __future__ import annotations

import abc
import time
from dataclasses import dataclass

from gateway.sample import Made, Options, Report
from gateway.stages import Budget, EncodedText, Stages


@dataclass(frozen=True)
class FlowRequest(abc.ABC):
    """A validated request: everything in it can be worked with."""

    options: Options
    request_id: str

    @abc.abstractmethod
    async def run(self, stages: Stages, budget: Budget, report: Report) -> list[Made]:
        """Make the pictures; ``report`` is told of every event on the way."""

    async def encode(
        self, prompt: str, stages: Stages, budget: Budget, seconds: dict[str, float]
    ) -> EncodedText:
        """The prompt's conditioning, once for all pictures."""
        started = time.monotonic()
        text = await stages.text_encoder.encode(prompt, budget)
        seconds["text_encoder"] = time.monotonic() - started
        return text
