"""A network that has its guidance distilled in: one evaluation for as much, two for any other guidance."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from services.diffusion.config import SamplingConfig
from services.diffusion.guidance import guided

WITH = torch.tensor([2.0, -1.0, 0.5])[:, None, None]
WITHOUT = torch.tensor([1.0, 1.0, 0.0])[:, None, None]
DISTILLED = SamplingConfig(guidance=3.0, guidance_interval=(0.5, 1.0), distilled_guidance=3.0)


def predictions(t: int, guidance: float, distilled: float) -> tuple[torch.Tensor, int]:
    """What a network with so much guidance in its predictions gives, and how often it is evaluated."""
    sampling = DISTILLED.model_copy(update={"distilled_guidance": distilled})
    own = WITHOUT + (distilled if sampling.guides(t) else 1.0) * (WITH - WITHOUT)
    seen: list[bool] = []

    def network(rows: Sequence[int], conditional: Sequence[bool]) -> list[torch.Tensor]:
        seen.extend(conditional)
        return [own if c else WITHOUT for c in conditional]

    (output,) = guided(network, [sampling.guidance_at(t, guidance)], 3)
    assert sampling.evaluations_at(t, guidance) == len(seen)
    return output, len(seen)


@pytest.mark.parametrize("t", [999, 600, 100])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, 3.0, 7.5])
def test_pictures_have_the_guidance_that_is_asked_for(t: int, guidance: float) -> None:
    plain, _ = predictions(t, guidance, 1.0)
    distilled, _ = predictions(t, guidance, 3.0)
    torch.testing.assert_close(distilled, plain)


def test_the_guidance_distilled_in_costs_one_evaluation() -> None:
    assert [predictions(t, 3.0, 3.0)[1] for t in (999, 600, 100)] == [1, 1, 1]
    assert [predictions(t, 3.0, 1.0)[1] for t in (999, 600, 100)] == [2, 2, 1]
    assert [predictions(t, 1.0, 3.0)[1] for t in (999, 600, 100)] == [2, 2, 1]
