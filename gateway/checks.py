"""Checks of single fields of requests; everything wrong is told at once, before anything is decoded."""

from __future__ import annotations

import uuid

from gateway.settings import Settings
from services.editing.errors import PictureError
from services.editing.pictures import Header, read_header
from services.wire.errors import InvalidInput

MAX_REQUEST_ID = 128


class Checks:
    """Checks of single fields.

    ``problem`` notes what is wrong; ``finish`` raises it all as one InvalidInput.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._problems: list[tuple[str, str]] = []
        self._error = InvalidInput

    def problem(self, field: str, text: str) -> None:
        """Note that a field is not what is allowed."""
        self._problems.append((field, text))

    def finish(self) -> None:
        """Raise InvalidInput with every problem, if there is any."""
        if self._problems:
            raise self._error(*self._problems)

    def text(self, field: str, text: str) -> None:
        """A text that says something, and not too much."""
        most = self._settings.max_prompt_characters
        if not text.strip():
            self.problem(field, "is empty; say what the picture shows")
        elif len(text) > most:
            self.problem(field, f"has {len(text)} characters; at most {most} are allowed")

    def request_id(self, given: str) -> str:
        """The caller's id, or a drawn one."""
        if len(given) > MAX_REQUEST_ID or not given.isprintable():
            self.problem("request_id", f"must be printable and at most {MAX_REQUEST_ID} characters")
        return given or uuid.uuid4().hex

    def picture(self, field: str, data: bytes, *, reducible: bool = False) -> Header | None:
        """A picture's header, if it can be used."""
        try:
            return read_header(data, self._settings.picture_limits, reducible=reducible)
        except PictureError as error:
            self.problem(field, str(error))
            return None

    def in_range(self, field: str, value: float, low: float, high: float) -> None:
        """A number between two others. A NaN is in no range."""
        if not low <= value <= high:
            self.problem(field, f"is {value:g}; it must be from {low:g} to {high:g}")

    def pixels(self, field: str, width: int, height: int) -> None:
        """The size of a result."""
        most = self._settings.max_picture_pixels
        longest = self._settings.max_aspect_ratio
        if width * height > most:
            self.problem(field, f"makes {width} x {height}; at most {most} pixels are allowed")
        elif max(width, height) > longest * min(width, height):
            self.problem(
                field, f"makes {width} x {height}; one side may be at most {longest:g} times the other"
            )
