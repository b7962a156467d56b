"""A short run of ``make fuzz``, and inputs that once brought about what they should not."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from services.bundles.bundle import ROOT
from tests.fuzz.inputs import Inputs
from tests.fuzz.runner import LEAK, Report, fuzzing, run

# Seeds of inputs that were not answered as they should be.
ONCE: tuple[int, ...] = ()


async def test_odd_inputs_bring_about_no_fault() -> None:
    report = await run(first=0, most=1500, seconds=60)
    assert not report.bad, report.bad[:5]
    assert report.answers["grpc OK"] > 20, report.answers  # what is sent also gets through
    assert report.answers["http 200"] > 5, report.answers
    assert report.answers["grpc INVALID_ARGUMENT"] > 100, report.answers


@pytest.mark.parametrize("seed", ONCE)
async def test_what_was_once_answered_wrongly(seed: int) -> None:
    async with fuzzing() as fuzzer:
        await fuzzer.one(seed)
        assert not fuzzer.report.bad, fuzzer.report.bad


def test_the_same_seed_makes_the_same_input() -> None:
    assert [Inputs(seed).call() for seed in range(20)] == [Inputs(seed).call() for seed in range(20)]


STACKS = ["Traceback (most recent call last)", 'File "gateway/x.py"', "at 127.0.0.1:9000"]
PATHS = [sys.prefix, sys.base_prefix, str(Path.home()), tempfile.gettempdir()]


@pytest.mark.parametrize("text", [*STACKS, *(f"in {folder}/x" for folder in PATHS), f"({ROOT}/x)"])
def test_a_leak_is_seen(text: str) -> None:
    report = Report()
    report.note(7, "grpc INVALID_ARGUMENT", text, fault=False, seconds=0.1)
    assert report.bad
    for fine in (
        "prompt: is empty; say what the picture shows",
        "/v1/models/ is not here",
        "image/png or a/b",
    ):
        assert not LEAK.search(fine)
