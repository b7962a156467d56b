"""Network calls of a few sizes, in which a row gets the same bits whatever its company."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
Network = Callable[[Sequence[int], Sequence[bool]], Tensor]
Evaluation = tuple[int, bool]  # a row, and whether it is evaluated with its conditioning


class Calls:
    """Splits evaluations into calls of these sizes; a call that is not full is filled up with repeats.

    Kernels may round differently at another batch size. So the first size's bits count, and another size is
    used for a kind of evaluation only once it has given the same: its first call is made both ways.
    """

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        """sizes: evaluations of a call; none: one call holds all that there are."""
        self._sizes = tuple(sizes)
        self._agrees: dict[tuple[Hashable, int], bool] = {}

    def outputs(
        self, network: Network, rows: Sequence[int], conditional: Sequence[bool], kind: Hashable = None
    ) -> list[Tensor]:
        """The network's output for every (row, conditional).

        kind: what decides the shapes of its inputs, but for their number.
        """
        evaluations = list(zip(rows, conditional, strict=True))
        if not self._sizes:
            return _called(network, evaluations, [len(rows)])
        first = self._sizes[0]
        usable = [size for size in self._sizes if size == first or self._agrees.get((kind, size), True)]
        sizes = split(len(rows), usable)
        found = _called(network, evaluations, sizes)
        if all(size == first or (kind, size) in self._agrees for size in sizes):
            return found[: len(rows)]
        expected = _called(network, evaluations, split(len(rows), [first]))[: len(rows)]
        repeats = [expected[0]] * (len(found) - len(rows))
        self._compare(found, [*expected, *repeats], sizes, kind)
        return expected

    def _compare(
        self, found: Sequence[Tensor], expected: Sequence[Tensor], sizes: Sequence[int], kind: Hashable
    ) -> None:
        """Learn which sizes give the bits of the first."""
        place = 0
        for size in sizes:
            pairs = zip(found[place : place + size], expected[place : place + size], strict=True)
            same = all(torch.equal(one, other) for one, other in pairs)
            self._agrees[kind, size] = self._agrees.get((kind, size), True) and same
            place += size
        for size in sorted({*sizes} - {self._sizes[0]}):
            chosen = "used" if self._agrees[kind, size] else "not used: it rounds differently"
            logger.info("calls of %d evaluations of %s are %s", size, kind, chosen)


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


def _called(network: Network, evaluations: Sequence[Evaluation], sizes: Sequence[int]) -> list[Tensor]:
    """The outputs from calls of exactly these sizes; those of repeats come last."""
    padding = sum(sizes) - len(evaluations)
    padded = [*evaluations, *[evaluations[0]] * padding]
    outputs: list[Tensor] = []
    for size in sizes:
        rows, conditional = zip(*padded[len(outputs) : len(outputs) + size], strict=True)
        outputs += network(rows, conditional).unbind()
    return outputs
