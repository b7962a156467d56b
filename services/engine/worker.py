"""What the engine's thread does: it starts tasks, takes steps and looks at what there is to show."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.engine.events import Outbox, Shown
from services.engine.jobs import Job, Plan

logger = logging.getLogger(__name__)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """One request as a stage gives it to its engine.

    Its methods run in the engine's thread and may block.
    """

    @property
    def plans(self) -> Sequence[Plan]:
        """What each row will need, known before any has started. Asked for on the event loop."""

    def start(self) -> Sequence[R_co]:
        """Make the rows, before their first step."""

    def preview(self) -> object | None:
        """What there is to show after a step; None: nothing."""

    def finish(self) -> object:
        """The result, when all rows are done."""


@dataclass(eq=False)
class Admitted(Generic[R]):
    """A job, the task behind it, and what its caller has not yet been told."""

    task: Task[R]
    job: Job
    rows: Sequence[R] | None = None
    outbox: Outbox = field(default_factory=Outbox)


def take_step(
    advance: Callable[[Sequence[R]], None], work: Sequence[tuple[Admitted[R], int]]
) -> list[tuple[Admitted[R], Exception]]:
    """Start tasks that have not begun, advance these rows of theirs, and keep what there is to show.

    Returns the tasks that could not start, with what they raised: they leave the others alone.
    """
    broken: dict[Admitted[R], Exception] = {}
    rows = []
    for admitted, i in work:
        if admitted in broken:
            continue
        try:
            if admitted.rows is None:
                admitted.rows = admitted.task.start()
        except Exception as error:
            broken[admitted] = error
        else:
            rows.append(admitted.rows[i])
    if rows:
        advance(rows)
    for admitted in dict.fromkeys(admitted for admitted, _ in work if admitted not in broken):
        _preview(admitted)
    return list(broken.items())


def _preview(admitted: Admitted[R]) -> None:
    """Keep what there is to show. A preview that cannot be made is left out."""
    try:
        preview = admitted.task.preview()
    except Exception:
        logger.exception("a preview could not be made")
        return
    if preview is not None:
        admitted.outbox.previews.append(Shown(preview))
