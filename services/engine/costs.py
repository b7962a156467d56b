"""What network calls cost: measured, by network and by the evaluations in a call."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SMOOTHING = 0.2  # weight of the newest measurement in the moving average
OUTLIER = 3.0  # times the estimate, at most: what a measurement counts as, so that a stall is soon forgotten


@dataclass(frozen=True)
class Segment:
    """Steps that a row takes in one network, one after another.

    evaluations: of the network in each step, 2 with guidance. Rows share a call if network and shape are
    equal.
    """

    network: str
    steps: int
    evaluations: int = 1
    shape: tuple[int, ...] = ()


def segments(network: str, evaluations: Sequence[int], shape: tuple[int, ...] = ()) -> list[Segment]:
    """A row's steps in a network, by the evaluations of each step, as few segments as they make."""
    return [
        Segment(network, len(list(steps)), count, shape) for count, steps in itertools.groupby(evaluations)
    ]


# A network, and whether the rows of its call can wait.
Call = tuple[str, bool]


@dataclass(frozen=True)
class CallSizes:
    """How many evaluations one call of a network may hold. None or absent: any number.

    A step is made of calls of these sizes, and is at most one of the largest. max_batch: the most rows of any
    step.
    """

    max_batch: int
    by_network: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def padded(self, network: str, evaluations: int) -> int:
        """The evaluations that are really computed for so many: the smallest calls are filled up."""
        size = min(self.by_network.get(network) or (1,))
        return math.ceil(evaluations / size) * size

    def has_room(self, network: str, rows: int, evaluations: int) -> bool:
        """Whether a step may hold so many rows with so many evaluations. One row always fits."""
        most = max(self.by_network.get(network) or (evaluations,))
        return rows <= 1 or (rows <= self.max_batch and evaluations <= most)

    def rows(self, segment: Segment) -> int:
        """The most rows like this one that share a step."""
        sizes = self.by_network.get(segment.network)
        return max(1, min(self.max_batch, max(sizes) // segment.evaluations)) if sizes else self.max_batch

    def full(self, network: str) -> int:
        """The evaluations of a full call."""
        return max(self.by_network.get(network) or (self.max_batch,))

    def call(self, network: str, *, can_wait: bool) -> Call:
        """Which calls a row may be in. Where all are of one size, whoever can wait fills up others' calls."""
        sizes = self.by_network.get(network) or (1, self.max_batch)
        return network, can_wait and min(sizes) < max(sizes)


class CostModel:
    """Seconds of a step, by its network and its evaluations.

    What was never measured is estimated from what was.
    """

    def __init__(self, sizes: CallSizes) -> None:
        self.sizes = sizes
        self._seconds: dict[str, dict[int, float]] = {}

    @property
    def networks(self) -> Iterable[str]:
        """The networks that were measured."""
        return self._seconds.keys()

    def measured_sizes(self, network: str) -> Iterable[int]:
        """The evaluations of its calls that were measured, up to a full one's."""
        return (size for size in self._seconds.get(network, ()) if size <= self.sizes.full(network))

    def measured(self, network: str, evaluations: int, seconds: float) -> None:
        """Learn from a step."""
        known = self._seconds.setdefault(network, {})
        size = self.sizes.padded(network, evaluations)
        before = known.get(size, seconds)
        known[size] = before + SMOOTHING * (min(seconds, OUTLIER * before) - before)

    def seconds(self, network: str, evaluations: float) -> float:
        """What a step is expected to cost; 0 for a network that was never measured.

        Between two measured sizes it is interpolated, below the smallest it costs as much as that, and above
        the largest it grows in proportion, so that the first guess is never too low.
        """
        known = self._seconds.get(network)
        if not known:
            return 0.0
        size = self.sizes.padded(network, math.ceil(evaluations))
        if size in known:
            return known[size]
        below = max((s for s in known if s < size), default=None)
        above = min((s for s in known if s > size), default=None)
        if below is None:
            return known[above] if above is not None else 0.0
        if above is None:
            return known[below] * size / below
        share = (size - below) / (above - below)
        return known[below] + share * (known[above] - known[below])


class Timeline:
    """How long rows take together if they are served in the order they are added.

    Each network has as many lanes as rows share one of its calls. A row goes to the lane that is free first,
    as the scheduler serves it; a network's calls are as many as its longest lane, and networks take turns on
    the device.
    """

    def __init__(self, costs: CostModel, crowd: Mapping[Call, int] | None = None) -> None:
        """crowd: evaluations of all rows that share calls, also of those that are added later, if any are."""
        self._costs = costs
        self._crowd = crowd or {}
        self._lanes: dict[Call, list[int]] = {}
        self._evaluations: Counter[Call] = Counter()

    def add(self, segments: Iterable[Segment], beside: int, *, can_wait: bool = False) -> None:
        """Append a row that still has these segments to go.

        beside: how many rows like it may run beside each other, which is how many lanes it may choose from.
        """
        for segment in segments:
            call = self._costs.sizes.call(segment.network, can_wait=can_wait)
            lanes = self._lanes.setdefault(call, [])
            allowed = min(self._costs.sizes.rows(segment), beside)
            lanes += [0] * (allowed - len(lanes))
            free = min(range(allowed), key=lanes.__getitem__)
            lanes[free] += segment.steps
            self._evaluations[call] += segment.steps * segment.evaluations

    @property
    def seconds(self) -> float:
        """Until the last row has ended."""
        total = 0.0
        for call, lanes in self._lanes.items():
            calls = max(lanes)
            if calls:
                shared = min(self._crowd.get(call, 0), self._costs.sizes.full(call[0]))
                total += calls * self._costs.seconds(call[0], max(shared, self._evaluations[call] / calls))
        return total
