"""What a recipe is: how one network is trained, and what it needs of the networks before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.training.loop import RunConfig


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    train: trains it in a folder, which has the checkpoints, the corpus, and the bundle that it writes to.
    config: how, unless the command line says otherwise. needs: parts of the bundle that have to be there.
    """

    train: Callable[[Path, RunConfig], object]
    config: RunConfig
    needs: tuple[str, ...] = ()
