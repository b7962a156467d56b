"""Batches are the same whoever draws them, and come in order."""

from __future__ import annotations

import multiprocessing
import os

import pytest
import torch
from torch import Tensor

from services.training.data.prefetching import Prefetched


def drawn(number: int) -> tuple[Tensor, Tensor]:
    """A batch that tells its number, and the process that drew it."""
    return torch.full((2,), number), torch.tensor(os.getpid())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_from_any_number(workers: int) -> None:
    batches = Prefetched(drawn, workers)
    for number in (5, 6, 7, 8, 9, 10, 3, 4):
        found, _ = batches.take(number)
        assert found.tolist() == [number, number]


def test_workers_draw_them_in_processes_of_their_own() -> None:
    batches = Prefetched(drawn, 2)
    processes = {int(batches.take(number)[1]) for number in range(8)}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_the_processes_end_when_it_is_closed() -> None:
    before = set(multiprocessing.active_children())
    batches = Prefetched(drawn, 2)
    batches.take(0)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.take(7)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    assert not set(multiprocessing.active_children()) - before
