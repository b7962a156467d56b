"""What happens to the pictures of a request, from stage to caller.

Plain values, which every layer passes on.
"""

from __future__ import annotations

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
    """A text was cut: the model read it up to this word."""

    field: str
    last_word_read: str


@dataclass(frozen=True)
class Drawn:
    """A finished picture, (H, W, 3) or (H, W, 4); the seed that makes it again, and its seconds by stage."""

    pixels: Pixels
    seed: int = 0
    seconds: dict[Step, float] = field(default_factory=dict)


Event = Queued | Progressed | Previewed | Timed | Warned | Drawn
Indexed = tuple[int, Event]  # which of a request's pictures it is about, from 0
