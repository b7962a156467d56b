"""What comes back: pictures, and what happens on the way to them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unclip.v1 import image_service_pb2 as pb


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    data: its file. seed: makes it again, with n=1 and the same request. index: which of the request's
    pictures it is, from 0. message: all that the service tells of it.
    """

    data: bytes
    width: int
    height: int
    seed: int
    index: int
    message: pb.Picture

    @property
    def image(self) -> Image.Image:
        """As a Pillow image."""
        picture = Image.open(io.BytesIO(self.data))
        picture.load()
        return picture

    def save(self, path: str | Path) -> None:
        """Write the file as it came."""
        Path(path).write_bytes(self.data)


@dataclass(frozen=True)
class Queued:
    """The picture waits; ``position`` rows are served before it."""

    index: int
    stage: str
    position: int


@dataclass(frozen=True)
class Progress:
    """A stage has done ``step`` of ``steps``, for frame ``frame`` of ``frames`` of an edit."""

    index: int
    stage: str
    step: int
    steps: int
    frame: int
    frames: int


@dataclass(frozen=True)
class Preview:
    """What the picture will look like, as a PNG file."""

    index: int
    data: bytes


@dataclass(frozen=True)
class Warned:
    """Something about a field that does not keep the request from being answered."""

    field: str
    message: str


@dataclass(frozen=True)
class RankedCaption:
    """A caption, its probability among the request's, and its place in the request."""

    caption: str
    probability: float
    index: int


Event = Queued | Progress | Preview | Warned | Picture


def event_of(response: pb.StreamResponse) -> Event | None:
    """What a message of a stream says; None for one of a newer service that this client does not know."""
    index = response.picture_index
    kind = response.WhichOneof("event")
    if kind == "picture":
        picture = response.picture
        return Picture(picture.data, picture.width, picture.height, picture.seed, index, picture)
    if kind == "progress":
        told = response.progress
        return Progress(index, _name(told.stage), told.step, told.steps, told.frame, told.frames)
    if kind == "queued":
        return Queued(index, _name(response.queued.stage), response.queued.position)
    if kind == "preview":
        return Preview(index, response.preview.data)
    return Warned(response.warning.field, response.warning.message) if kind == "warning" else None


def ranked_of(response: pb.RankCaptionsResponse) -> list[RankedCaption]:
    """Captions, best first."""
    return [RankedCaption(c.caption, c.probability, c.index) for c in response.captions]


def _name(stage: pb.Stage.ValueType) -> str:
    return pb.Stage.Name(stage).removeprefix("STAGE_").lower()
