"""Traces are the same for both sides, whoever made them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.batching import Callers, Trial
from tests.bench.trace import KINDS, Arrival, at_rate, poisson, read, write


def test_a_trace_is_a_function_of_its_seed_and_has_all_kinds() -> None:
    trace = poisson(5.0, 200.0, 3)
    assert trace == poisson(5.0, 200.0, 3)
    assert trace != poisson(5.0, 200.0, 4)
    assert len(trace) == pytest.approx(1000, rel=0.15)
    assert {arrival.kind for arrival in trace} == set(KINDS)
    assert [a.at for a in trace] == sorted(a.at for a in trace)
    assert trace[-1].at < 200


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    trace = poisson(1.0, 30.0, 1)
    write(tmp_path / "new" / "trace.jsonl", trace)
    found = read(tmp_path / "new" / "trace.jsonl")
    assert [(a.prompt, a.kind) for a in found] == [(a.prompt, a.kind) for a in trace]
    assert [a.at for a in found] == pytest.approx([a.at for a in trace], abs=1e-3)


def test_a_trace_can_be_replayed_faster() -> None:
    trace = at_rate(poisson(1.0, 100.0, 1), 4.0)
    assert len(trace) / trace[-1].at == pytest.approx(4.0)
    given = Trial("it", [1.0], 10.0, given=trace)
    assert given.arrivals(2.0)[-1].at == pytest.approx(2 * trace[-1].at)


async def test_what_did_not_come_meets_no_objective() -> None:
    fast, slow = KINDS[:2]

    async def draw(arrival: Arrival) -> None:
        if arrival.kind == slow:
            raise ConnectionResetError
        await asyncio.sleep(0)

    callers = Callers(draw)
    await callers.replay([Arrival(0.0, "a fox", kind) for kind in (fast, slow, fast, slow)])
    assert callers.asked == 4
    assert callers.attained(8, {fast: 60.0, slow: 60.0}) == 0.5
    assert callers.attained(8, {fast: 0.0, slow: 60.0}) == 0


@pytest.mark.parametrize("text", ["", '{"at": 0, "prompt": "a fox", "size": 256, "steps": 4}'])
def test_a_file_that_tells_no_rate_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text(text)
    with pytest.raises(ValueError, match="no arrival"):
        read(tmp_path / "trace.jsonl")
