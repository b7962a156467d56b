"""Whose turn it is, on a clock of the test's own."""

from __future__ import annotations

import contextlib

import pytest

from gateway.shares import Shares


class Turns:
    """Requests of one second each, which end when the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shares = Shares(lambda: self.now)

    @contextlib.contextmanager
    def asks(self, tenant: str, left: list[float] | None = None, priority: str = "interactive"):  # type: ignore[no-untyped-def]
        own = left or [1.0]
        with self.shares.charged(tenant, priority, lambda: own[0]):  # type: ignore[arg-type]
            yield

    def lag(self, tenant: str, priority: str = "interactive") -> float:
        return self.shares.lag(tenant, priority)  # type: ignore[arg-type]


def test_who_asks_for_more_than_a_share_lags_though_all_could_be_served() -> None:
    turns = Turns()
    with contextlib.ExitStack() as work:
        for tenant in ("b", "c", "d", "e"):
            work.enter_context(turns.asks(tenant))
        for second in range(60):  # a: a request every second, of five tenants' time; b: every ten seconds
            turns.now = float(second)
            work.enter_context(turns.asks("a"))
            if second % 10 == 0:
                work.enter_context(turns.asks("b"))
        turns.now = 60.0
        assert turns.lag("a") > 100
        assert turns.lag("b") < 10


def test_a_tenant_that_is_alone_lags_by_its_own_work_only() -> None:
    turns = Turns()
    with contextlib.ExitStack() as work:
        for _ in range(3):
            work.enter_context(turns.asks("a"))
        assert turns.lag("a") == 3.0
        turns.now = 2.0
        assert turns.lag("a") == 1.0
        assert turns.lag("b") == 0.0


def test_what_was_not_used_is_given_back() -> None:
    turns = Turns()
    for _ in range(60):
        with turns.asks("a"):
            pass  # it is cancelled at once
    assert turns.lag("a") == pytest.approx(0.0)
    left = [1.0]
    with turns.asks("a", left):
        left[0] = 0.25
    assert turns.lag("a") == pytest.approx(0.75)


def test_batch_work_does_not_delay_what_its_tenant_waits_for() -> None:
    turns = Turns()
    with turns.asks("a", [50.0], "batch"):
        assert turns.lag("a", "batch") == 50.0
        assert turns.lag("a") == 0.0


def test_nobody_known_never_lags() -> None:
    turns = Turns()
    with turns.asks("", [50.0]):
        assert turns.lag("") == 0.0
