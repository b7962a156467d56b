"""The decoder's own stage whose network calls wait instead of computing, as a Ray Serve application.

So several of them on one machine do not slow one another down, as on machines of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ray import serve
from ray.serve import Application
from torch import Tensor

from services.decoder.app import DecoderDeployment
from services.decoder.sampler import DecoderSampler
from services.decoder.settings import Settings
from services.decoder.stage import DecoderStage
from services.decoder.tasks import DecoderRow
from services.serving.deployment import bound

# Seconds of a call: some of each call, and some of each evaluation.
CALL_SECONDS = 0.01
EVALUATION_SECONDS = {"_evaluate_base": 0.02, "_evaluate_upsampler": 0.06}


def make_wait(sampler: DecoderSampler) -> None:
    """Replace its networks' calls."""

    def waiting(channels: int, seconds: float) -> Any:
        def evaluate(rows: Sequence[DecoderRow], conditional: Sequence[bool]) -> Tensor:
            time.sleep(CALL_SECONDS + seconds * len(conditional))
            return torch.zeros(len(rows), channels, *rows[0].evaluation.x.shape[1:])

        return evaluate

    outputs = {"_evaluate_base": sampler.config.unet.out_channels, "_evaluate_upsampler": 3}
    for name, channels in outputs.items():
        setattr(sampler, name, waiting(channels, EVALUATION_SECONDS[name]))


class Waiting(DecoderDeployment.func_or_class):  # type: ignore[misc, name-defined]
    """As the real one."""

    def load(self) -> DecoderStage:
        """With networks that are not asked."""
        stage: DecoderStage = super().load()
        make_wait(stage.sampler)
        return stage


def build(args: Mapping[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    return bound(serve.deployment(Waiting, name="Decoder"), Settings, args)
