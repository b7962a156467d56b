"""Calls of several sizes: which are used, and that a row's bits never depend on its company."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from services.diffusion.calls import Calls, split


class Device:
    """Evaluates rows; calls of some sizes round differently, and all are noted."""

    def __init__(self, rounds_differently: Sequence[int] = ()) -> None:
        self.rounds_differently = rounds_differently
        self.calls: list[int] = []

    def __call__(self, rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
        self.calls.append(len(rows))
        exact = torch.tensor([[row + 0.5 * given] for row, given in zip(rows, conditional, strict=True)])
        return exact + 1e-6 * (len(rows) in self.rounds_differently)


def drawn(calls: Calls, device: Device, count: int, kind: str = "64 px") -> list[float]:
    device.calls.clear()
    outputs = calls.outputs(device, range(count), [True] * count, kind)
    return [float(output) for output in outputs]


def right(count: int) -> list[float]:
    return [row + 0.5 for row in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes", "expected"),
    [
        (1, [2], [2]),
        (5, [2], [2, 2, 2]),
        (13, [2, 4, 6, 8], [8, 6]),
        (10, [64, 8, 16], [16]),
        (3, [8, 1], [1] * 3),
    ],
)
def test_evaluations_are_split_into_few_calls(count: int, sizes: list[int], expected: list[int]) -> None:
    assert split(count, sizes) == expected


def test_all_share_one_call_where_no_size_is_given() -> None:
    device = Device()
    assert drawn(Calls(), device, 5) == right(5)
    assert device.calls == [5]


def test_a_size_is_used_once_it_has_given_the_bits_of_the_first() -> None:
    calls, device = Calls([2, 4, 8]), Device()
    assert drawn(calls, device, 8) == right(8)
    assert device.calls == [8, 2, 2, 2, 2]
    drawn(calls, device, 8)
    assert device.calls == [8]
    drawn(calls, device, 3)
    assert device.calls == [4, 2, 2]  # four at once are new


def test_a_size_that_rounds_differently_is_never_seen() -> None:
    calls, device = Calls([2, 4, 8]), Device(rounds_differently=[8])
    for _ in range(3):
        assert drawn(calls, device, 8) == right(8)
    assert device.calls == [4, 4]


def test_repeats_that_fill_a_call_are_compared_too() -> None:
    """Else a size that rounds differently only in its last places would be trusted."""
    calls = Calls([2, 4])

    class Uneven(Device):
        def __call__(self, rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
            return super().__call__(rows, conditional) + 1e-6 * (torch.arange(len(rows)) == 3)[:, None]

    device = Uneven()
    assert drawn(calls, device, 3) == right(3)
    assert drawn(calls, device, 4) == right(4)
    assert device.calls == [2, 2]


def test_the_first_size_counts_though_it_is_the_largest() -> None:
    calls, device = Calls([8, 2]), Device(rounds_differently=[8])
    for _ in range(2):
        assert drawn(calls, device, 2) == drawn(Calls([8]), device, 2)
    drawn(calls, device, 2)
    assert device.calls == [8]


def test_each_kind_of_evaluation_is_compared_by_itself() -> None:
    calls, device = Calls([2, 4]), Device()
    drawn(calls, device, 4)
    drawn(calls, device, 4, "256 px")
    assert device.calls == [4, 2, 2]
