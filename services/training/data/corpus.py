"""The training corpus: scenes that are rendered once, on all cores, for every recipe.

Scene ``i`` of a corpus is a function of ``i`` alone. So only pictures are stored; scenes are sampled again.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from services.training.data.scenes import Scene, render, sample_scene

SIDE = 64
SEED = 11
PART = 64  # scenes that one worker renders at a time
Indices = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class Corpus:
    """Training scenes. pictures: (count, side, side, 3), mapped from ``folder/corpus-{side}-{count}``."""

    def __init__(self, folder: Path, count: int, side: int = SIDE) -> None:
        """Open the corpus in ``folder``, or render it: at 64 px some 150 scenes a second on each core."""
        self.folder = folder / f"corpus-{side}-{count}"
        self.count = count
        self.side = side
        self.pictures: npt.NDArray[np.uint8] = np.load(self._rendered(), mmap_mode="r")

    def _rendered(self) -> Path:
        path = self.folder / "pictures.npy"
        if path.exists():
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "partial.npy"
        pictures = np.lib.format.open_memmap(partial, "w+", np.uint8, (self.count, self.side, self.side, 3))
        starts = range(0, self.count, PART)
        counts = [min(PART, self.count - start) for start in starts]
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as workers:
            parts = workers.map(_render_part, starts, counts, [self.side] * len(starts))
            for start, part in zip(starts, track(parts, "rendering scenes", len(starts)), strict=True):
                pictures[start : start + len(part)] = part
        pictures.flush()
        return partial.rename(path)

    @cached_property
    def scenes(self) -> list[Scene]:
        """What each picture shows."""
        return [scene_at(i) for i in range(self.count)]

    def draw(self, rng: np.random.Generator, count: int, shares: Shares | None = None) -> Indices:
        """The indices of a batch. shares: how likely each scene is, (count,), with sum 1; None: equally."""
        return rng.choice(self.count, count, p=shares)


def scene_at(index: int) -> Scene:
    """Scene number ``index`` of every corpus."""
    return sample_scene(np.random.default_rng((SEED, index)))


def _render_part(start: int, count: int, side: int) -> npt.NDArray[np.uint8]:
    return np.stack([render(scene_at(i), side) for i in range(start, start + count)])
