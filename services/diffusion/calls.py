"""Network calls of a few sizes, in which a row gets the same bits whatever its company."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from services.diffusion.lanes import Lanes

logger = logging.getLogger(__name__)
Network = Callable[[Sequence[int], Sequence[bool]], Tensor]
Evaluation = tuple[int, bool]  # a row, and whether it is evaluated with its conditioning
T = TypeVar("T")
TRIES = 3  # how often each way is timed before one is chosen


class Call(NamedTuple):
    """size: its evaluations. wide: it has all threads, else those of one lane."""

    size: int
    wide: bool


class Calls:
    """Splits evaluations into calls of these sizes, side by side where there are lanes.

    A call that is not full is filled up with repeats. Kernels may round differently at another batch size, or
    with fewer threads. So the bits of a wide call of the first size count, and another call is used for a
    kind of evaluation only once it has given the same: its first time is made both ways.

    Lanes do not help every network: of a large one each lane reads all weights. So for each number of
    evaluations both ways are timed, and the faster one is kept.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (),
        lanes: Lanes | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """sizes: evaluations of a call; none: any, and it does not matter how they round."""
        self._sizes = tuple(sizes)
        self._lanes = lanes or Lanes()
        self._clock = clock
        self._agrees: dict[tuple[Hashable, Call], bool] = {}
        # By the kind of evaluations and the calls, where there is another way.
        self._seconds: dict[tuple[Hashable, ...], list[float]] = defaultdict(list)

    def outputs(
        self, network: Network, rows: Sequence[int], conditional: Sequence[bool], kind: Hashable = None
    ) -> list[Tensor]:
        """The network's output for every (row, conditional).

        kind: what decides the shapes of its inputs, but for their number.
        """
        evaluations = list(zip(rows, conditional, strict=True))
        ways = self._ways(len(evaluations), kind)
        calls = self._chosen(ways, kind)
        started = self._clock()
        found = self._made(network, evaluations, calls)
        if not self._sizes or all(self._agreed(call, kind) for call in calls):
            if len(ways) > 1:
                self._time(calls, kind, self._clock() - started)
            return found[: len(rows)]
        first = [Call(size, wide=True) for size in split(len(rows), self._sizes[:1])]
        expected = self._made(network, evaluations, first)[: len(rows)]
        repeats = [expected[0]] * (len(found) - len(rows))
        self._compare(found, [*expected, *repeats], calls, kind)
        return expected

    def _ways(self, count: int, kind: Hashable) -> list[list[Call]]:
        """Calls for so many evaluations: side by side, if that is more than one, or one after another."""
        side_by_side = self._side_by_side(count, kind)
        wide = self._one_after_another(count, kind)
        return [side_by_side, wide] if side_by_side else [wide]

    def _chosen(self, ways: Sequence[list[Call]], kind: Hashable) -> list[Call]:
        """The way that was timed less, until all were timed often enough; then the fastest."""
        times = [self._seconds.get((kind, *calls), []) for calls in ways]
        least = min(times, key=len)
        if len(least) < TRIES:
            return ways[times.index(least)]
        return ways[min(range(len(ways)), key=lambda i: min(times[i]))]

    def _time(self, calls: Sequence[Call], kind: Hashable, seconds: float) -> None:
        times = self._seconds[kind, *calls]
        if len(times) < TRIES:
            times.append(seconds)

    def _one_after_another(self, count: int, kind: Hashable) -> list[Call]:
        sizes = self._usable(kind, wide=True) if self._sizes else [count]
        return [Call(size, wide=True) for size in split(count, sizes)]

    def _side_by_side(self, count: int, kind: Hashable) -> list[Call]:
        """No calls, if there is but one lane, or work for one."""
        sizes = self._usable(kind, wide=False)
        if self._sizes and not sizes:
            return []
        shares = _shares(count, self._lanes.count, min(sizes, default=1))
        if len(shares) == 1:
            return []
        return [Call(size, wide=False) for share in shares for size in split(share, sizes or [share])]

    def _usable(self, kind: Hashable, *, wide: bool) -> list[int]:
        """The sizes of calls that give the right bits, as far as it is known."""
        return [size for size in self._sizes if self._agreed(Call(size, wide), kind) is not False]

    def _agreed(self, call: Call, kind: Hashable) -> bool | None:
        """Whether a call gives the right bits; None: it is not known yet."""
        if call == Call(self._sizes[0], wide=True):
            return True  # its bits are the right ones
        return self._agrees.get((kind, call))

    def _made(
        self, network: Network, evaluations: Sequence[Evaluation], calls: Sequence[Call]
    ) -> list[Tensor]:
        """The outputs from exactly these calls; those of repeats come last."""
        padding = sum(call.size for call in calls) - len(evaluations)
        padded = [*evaluations, *[evaluations[0]] * padding]
        parts = []
        for part, _ in _parts(padded, calls):
            rows, conditional = zip(*part, strict=True)
            parts.append(partial(network, rows, conditional))
        outputs = self._lanes.run(parts, wide=calls[0].wide)
        return [output for part in outputs for output in part.unbind()]

    def _compare(
        self, found: Sequence[Tensor], expected: Sequence[Tensor], calls: Sequence[Call], kind: Hashable
    ) -> None:
        """Learn which calls give the bits of the first."""
        for pairs, call in _parts(list(zip(found, expected, strict=True)), calls):
            same = all(torch.equal(one, other) for one, other in pairs)
            self._agrees[kind, call] = self._agrees.get((kind, call), True) and same
        for call in sorted({*calls}):
            chosen = "used" if self._agreed(call, kind) else "not used: it rounds differently"
            where = "all threads" if call.wide else "one lane"
            logger.info("calls of %d evaluations of %s on %s are %s", call.size, kind, where, chosen)


def _parts(items: Sequence[T], calls: Sequence[Call]) -> Iterator[tuple[Sequence[T], Call]]:
    """The items of each call."""
    place = 0
    for call in calls:
        yield items[place : place + call.size], call
        place += call.size


def _shares(count: int, lanes: int, least: int) -> list[int]:
    """So many evaluations, shared out among lanes. Each share but the last is a multiple of the least."""
    units = -(-count // least)
    each, more = divmod(units, min(lanes, units))
    shares = [least * (each + (i < more)) for i in range(min(lanes, units))]
    return [*shares[:-1], count - sum(shares[:-1])]


def split(count: int, sizes: Sequence[int]) -> list[int]:
    """So many evaluations as calls of these sizes, large ones first.

    One call is filled up if no more than half of it would be repeats, since many small ones cost more.
    """
    found = []
    while count > 0:
        whole = min((size for size in sizes if size >= count), default=0)
        fitting = max((size for size in sizes if size <= count), default=whole)
        found.append(whole if 0 < whole <= 2 * count else fitting)
        count -= found[-1]
    return found
