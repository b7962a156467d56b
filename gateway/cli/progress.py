"""Progress bars: one for each stage, over all pictures of a request."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli.client import console
from unclip.v1 import image_service_pb2 as pb


class Bars:
    """A progress bar for each stage, over all pictures of a request."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._tasks: dict[int, TaskID] = {}
        self._done: dict[tuple[int, int], int] = {}
        self._progress = Progress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, index: int, progress: pb.Progress) -> None:
        """A picture has taken a step in a stage.

        A stage that starts anew (the next frame of a canvas) adds to its total.
        """
        stage = progress.stage
        name = pb.Stage.Name(stage).removeprefix("STAGE_").lower().replace("_", " ")
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(name, total=self._n * progress.steps)
        before = self._done.get((index, stage), 0)
        if progress.step <= before:
            task = self._progress.tasks[self._tasks[stage]]
            self._progress.update(self._tasks[stage], total=(task.total or 0) + progress.steps)
            before = 0
        self._progress.advance(self._tasks[stage], progress.step - before)
        self._done[index, stage] = progress.step
