"""Batches that are drawn ahead of time, by processes of their own: a GPU trains faster than one can draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T_co = TypeVar("T_co", covariant=True)
AHEAD = 2  # batches that each process draws ahead


class Prefetched(Dataset[T_co], Generic[T_co]):
    """Batches by their numbers. Each is a function of its number alone: it does not matter who draws it."""

    def __init__(self, draw: Callable[[int], T_co], workers: int = 0) -> None:
        """draw: makes a batch of tensors on the CPU. workers: processes; 0: it is drawn when asked for."""
        self._draw = draw
        self._workers = workers
        self._next = -1
        self._batches: Iterator[T_co] = iter(())

    def __getitem__(self, number: int) -> T_co:
        """The batch of this number, drawn here."""
        return self._draw(number)

    def take(self, number: int) -> T_co:
        """The batch of this number. Those after it are drawn meanwhile."""
        if not self._workers:
            return self[number]
        if number != self._next:
            self.close()
            self._batches = self._from(number)
        self._next = number + 1
        return next(self._batches)

    def close(self) -> None:
        """End the processes."""
        self._batches = iter(())
        self._next = -1

    def _from(self, number: int) -> Iterator[T_co]:
        loader: DataLoader[T_co] = DataLoader(
            self,
            batch_size=None,
            sampler=count(number),
            num_workers=self._workers,
            prefetch_factor=AHEAD,
            multiprocessing_context="fork",  # what they draw from is there already
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)
