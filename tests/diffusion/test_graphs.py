"""Recorded network calls give what calling the network gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from services.diffusion import graphs
from services.diffusion.graphs import Graphs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(x: Tensor, known: Tensor | None) -> Tensor:
    """Something that depends on everything given."""
    return x.cos() if known is None else x.cos() * known


@torch.inference_mode()
def test_outputs_are_the_networks_at_every_shape_and_stay() -> None:
    calls = Graphs(DEVICE)
    given = [torch.randn(size, 5, device=DEVICE) for size in (1, 2, 1, 2, 3)]
    outputs = [calls.call(network, x, x if len(x) > 1 else None) for x in given]
    for x, output in zip(given, outputs, strict=True):
        assert torch.equal(output, network(x, x if len(x) > 1 else None))


@torch.inference_mode()
def test_networks_are_told_apart() -> None:
    calls = Graphs(DEVICE)
    one, other = (nn.Linear(4, 4).to(DEVICE) for _ in range(2))
    x = torch.randn(3, 4, device=DEVICE)
    assert torch.equal(calls.call(one, x), one(x))
    assert torch.equal(calls.call(other, x), other(x))


@torch.inference_mode()
def test_a_graph_that_was_dropped_is_recorded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 2)
    calls = Graphs(DEVICE)
    for size in (1, 2, 3, 1, 3, 2):
        x = torch.randn(size, 7, device=DEVICE)
        assert torch.equal(calls.call(network, x, None), network(x, None))
