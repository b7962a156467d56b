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
        """A picture has taken a step in a stage, for one of the frames that it is painted in."""
        stage = progress.stage
        if stage not in self._tasks:
            name = pb.Stage.Name(stage).removeprefix("STAGE_").lower().replace("_", " ")
            frames = 1 if stage == pb.STAGE_PRIOR else max(progress.frames, 1)
            self._tasks[stage] = self._progress.add_task(name, total=self._n * frames * progress.steps)
        self._done[stage, index] = progress.frame * progress.steps + progress.step
        done = sum(steps for (of, _), steps in self._done.items() if of == stage)
        self._progress.update(self._tasks[stage], completed=done)
