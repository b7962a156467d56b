"""What happens to the pictures of a request, from stage to caller.

Plain values, which every layer passes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from services.editing.pictures import Pixels

# The stages as a caller hears of them. The upsamplers are the decoder's, but tell their progress apart.
Step = Literal["text_encoder", "image_encoder", "prior", "decoder", "upsampler"]


@dataclass(frozen=True)
class Queued:
    """The picture waits for a place in a stage; ``position`` rows are served before it."""

    stage: Step
    position: int


@dataclass(frozen=True)
class Progressed:
    """A stage has done ``step`` of ``steps``, for frame ``frame`` (from 0) of ``frames``."""

    stage: Step
    step: int
    steps: int
    frame: int = 0
    frames: int = 1


@dataclass(frozen=True)
class Previewed:
    """What the decoder thinks the picture will be, (s, s, 3)."""

    pixels: Pixels


@dataclass(frozen=True)
class Timed:
    """A stage has spent so many seconds on the picture, waiting and working."""

    stage: Step
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something about a field of the request that its caller should know."""

    field: str
    message: str
    kind: Literal["text cut", "no effect"]


def text_cut(field: str, last_word_read: str) -> Warned:
    """The warning that the model read a text only up to this word."""
    message = f'is longer than the model reads; what comes after "{last_word_read}" had no effect'
    return Warned(field, message, "text cut")


@dataclass(frozen=True)
class Drawn:
    """A finished picture, (H, W, 3) or (H, W, 4); the seed that makes it again, and its seconds by stage."""

    pixels: Pixels
    seed: int = 0
    seconds: dict[Step, float] = field(default_factory=dict)


Event = Queued | Progressed | Previewed | Timed | Warned | Drawn
Indexed = tuple[int, Event]  # which of a request's pictures it is about, from 0
Observe = Callable[[int, Event], None]


def unobserved(index: int, event: Event) -> None:
    """Nobody is told of events before they are read."""
