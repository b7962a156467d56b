"""Calls of several sizes: which are used, and that a row's bits never depend on its company."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from services.diffusion.calls import Calls, split
from services.diffusion.lanes import Lanes, one_thread


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


def test_bits_of_the_first_size_count_even_if_they_are_no_numbers() -> None:
    calls, device = Calls([2, 4]), Device()
    nothing = [[float("nan")]] * 6

    def broken(rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
        return torch.tensor(nothing[: len(rows)])

    for _ in range(3):
        calls.outputs(broken, range(6), [True] * 6, "64 px")
    assert drawn(calls, device, 6) == right(6)
    assert device.calls == [2, 2, 2]


def test_each_kind_of_evaluation_is_compared_by_itself() -> None:
    calls, device = Calls([2, 4]), Device()
    drawn(calls, device, 4)
    drawn(calls, device, 4, "256 px")
    assert device.calls == [4, 2, 2]


class Side(Device):
    """A device whose calls note the thread they are computed in, and may round differently in lanes."""

    def __init__(self, lanes_round_differently: bool = False) -> None:
        super().__init__()
        self.lanes_round_differently = lanes_round_differently
        self.in_lanes: list[bool] = []
        self.threads: set[int] = set()

    def __call__(self, rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
        in_lane = threading.current_thread().name.startswith("lane")
        self.in_lanes.append(in_lane)
        self.threads.add(torch.get_num_threads())
        return super().__call__(rows, conditional) + 1e-6 * (in_lane and self.lanes_round_differently)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield Lanes(2)
    torch.set_num_threads(before)


def test_calls_are_made_side_by_side_with_the_threads_shared_out(lanes: Lanes) -> None:
    calls, device = Calls([1, 2, 3], lanes), Side()
    drawn(calls, device, 5)
    device.in_lanes.clear()
    device.threads.clear()
    assert drawn(calls, device, 5) == right(5)
    assert sorted(device.calls) == [2, 3]
    assert device.in_lanes == [True, True]
    assert device.threads == {2}


def test_one_evaluation_has_all_threads(lanes: Lanes) -> None:
    device = Side()
    assert drawn(Calls([1, 2], lanes), device, 1) == right(1)
    assert device.in_lanes == [False]
    assert device.threads == {4}


def test_lanes_that_round_differently_are_never_seen(lanes: Lanes) -> None:
    calls, device = Calls([1, 2, 3, 4], lanes), Side(lanes_round_differently=True)
    for count in (2, 3, 4, 8, 2, 3, 4, 8, 8):
        device.in_lanes.clear()
        assert drawn(calls, device, count) == right(count)
    assert not any(device.in_lanes)


def test_where_bits_do_not_matter_all_lanes_have_a_call(lanes: Lanes) -> None:
    device = Side()
    assert drawn(Calls((), lanes), device, 7) == right(7)
    assert sorted(device.calls) == [3, 4]
    assert drawn(Calls((), lanes), device, 1) == right(1)


@pytest.mark.parametrize("sizes", [[2], [2, 4], [4, 2], [3, 1], [8]])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_evaluation_is_made_whatever_the_sizes(lanes: Lanes, sizes: list[int], count: int) -> None:
    calls, device = Calls(sizes, lanes), Side()
    for _ in range(2):
        assert drawn(calls, device, count) == right(count)
    assert set(device.calls) <= set(sizes)


@pytest.mark.parametrize("lanes_are_faster", [True, False])
@pytest.mark.parametrize("sizes", [[], [1, 2, 3, 4]])
def test_the_faster_way_is_kept(lanes: Lanes, lanes_are_faster: bool, sizes: list[int]) -> None:
    now = 0.0

    class Timed(Side):
        def __call__(self, rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
            nonlocal now
            outputs = super().__call__(rows, conditional)
            now += 1 if self.in_lanes[-1] == lanes_are_faster else 10
            return outputs

    calls, device = Calls(sizes, lanes, lambda: now), Timed()
    for _ in range(10):
        assert drawn(calls, device, 4) == right(4)
    device.in_lanes.clear()
    for _ in range(5):
        assert drawn(calls, device, 4) == right(4)
    assert set(device.in_lanes) == {lanes_are_faster}


def test_there_are_no_more_lanes_than_threads() -> None:
    with one_thread():
        assert Lanes(8).count == 1


def test_an_error_in_a_lane_is_raised(lanes: Lanes) -> None:
    def broken(rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Calls([1, 2], lanes).outputs(broken, range(4), [True] * 4)


def test_one_thread_for_a_while(lanes: Lanes) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
