"""Doors and engines under more work than there is time for, simulated: what was begun is in time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.gateway.simulation import ALONE, Simulation

SECONDS = 70.0
WARM_UP = 10.0
Deadline = Callable[[random.Random], float]
DEADLINES: dict[str, Deadline] = {
    "8 s": lambda dice: 8.0,
    "3 to 30 s": lambda dice: dice.choice((3.0, 6.0, 8.0, 12.0, 30.0)),
}


def goodput(simulation: Simulation) -> float:
    return len([done for done in simulation.done if WARM_UP <= done < SECONDS]) / (SECONDS - WARM_UP)


@pytest.fixture(scope="module")
def peak() -> float:
    """Pictures a second where nobody is in a hurry."""
    simulation = Simulation(1)
    simulation.run(3 / ALONE, lambda dice: 60.0, SECONDS)
    return goodput(simulation)


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize("load", [1, 3, 10])
@pytest.mark.parametrize("deadline", DEADLINES)
def test_useful_work_stays_near_the_peak_and_little_is_in_vain(
    peak: float, deadline: str, load: float, gateways: int
) -> None:
    simulation = Simulation(gateways)
    simulation.run(load * peak, DEADLINES[deadline], SECONDS)
    asked = len(simulation.done) + simulation.refused + simulation.refused_late + simulation.missed
    # As much as the peak comes at random: now and then there is nothing to do, and then too much.
    least = 0.9 if load > 1 else 0.85
    assert goodput(simulation) >= least * min(peak, asked / SECONDS)
    assert simulation.in_vain <= 0.02 * simulation.row_steps
    assert simulation.missed <= 1


def test_the_simulations_world_is_a_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the doors, most of what is begun there is in vain."""
    simulation = Simulation(2)
    for gateway in simulation.doors:
        monkeypatch.setattr(gateway.door, "_slack", lambda *_: 0.0)
        monkeypatch.setattr(gateway.door, "_require_patience", lambda *_: None)
    simulation.run(10 / ALONE, DEADLINES["8 s"], SECONDS)
    assert simulation.in_vain > 0.2 * simulation.row_steps
