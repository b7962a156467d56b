"""Progress bars: one for each stage, over all pictures of a request."""

from __future__ import annotations

from rich import progress
from rich.progress import TaskID

from gateway.cli.client import console
from unclip_client import Progress


class Bars:
    """A progress bar for each stage, over all pictures of a request."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[tuple[str, int], int] = {}
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:>14}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, event: Progress) -> None:
        """A picture has taken a step in a stage, for one of the frames that it is painted in."""
        stage = event.stage
        if stage not in self._tasks:
            frames = 1 if stage == "prior" else max(event.frames, 1)
            total = self._n * frames * event.steps
            self._tasks[stage] = self._bars.add_task(stage.replace("_", " "), total=total)
        self._done[stage, event.index] = event.frame * event.steps + event.step
        done = sum(steps for (of, _), steps in self._done.items() if of == stage)
        self._bars.update(self._tasks[stage], completed=done)
