"""Comparisons with reference implementations, which make up a table at the end of the tests' output."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np


class Compared(NamedTuple):
    """What a test compared, how far it was off at most, and how far it may be."""

    test: str
    difference: float
    tolerance: float


COMPARED: list[Compared] = []


def assert_within(ours: Any, theirs: Any, tolerance: float, *, relative: bool = False) -> None:
    """The largest difference of two arrays or tensors is at most the tolerance; it is noted.

    relative: each difference counts over 1 + what the reference has there.
    """
    mine, other = (np.asarray(array, dtype=np.float64) for array in (ours, theirs))
    assert mine.shape == other.shape
    difference = float((np.abs(mine - other) / (1 + relative * np.abs(other))).max())
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0].removeprefix("tests/")
    COMPARED.append(Compared(test, difference, tolerance))
    assert difference <= tolerance


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The worst of each test's comparisons."""
    worst: dict[str, Compared] = {}
    for compared in COMPARED:
        known = worst.get(compared.test)
        if known is None or compared.difference / compared.tolerance > known.difference / known.tolerance:
            worst[compared.test] = compared
    if worst:
        terminalreporter.section("compared with the reference implementations")
        for compared in worst.values():
            terminalreporter.write_line(
                f"{compared.difference:8.1e}  of {compared.tolerance:.0e}  {compared.test}"
            )
