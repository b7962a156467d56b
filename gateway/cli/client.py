"""The service as commands see it: they say that they wait, and end with an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console

from unclip_client import (
    DeadlineExceeded,
    InvalidRequest,
    ServiceFull,
    Unavailable,
    UnclipError,
)

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_TRY_AGAIN = 3
console = Console(stderr=True)


def say_waiting(error: UnclipError, delay: float) -> None:
    """Tell a person that a full service is asked again."""
    console.print(f"{error} (--no-wait gives up at once)", style="yellow", markup=False, highlight=False)


@contextlib.contextmanager
def exiting() -> Iterator[None]:
    """End the command where the service could not do what was asked, with what it says."""
    try:
        yield
    except UnclipError as error:
        for line in explain(error):
            console.print(line, style="red", markup=False, highlight=False)
        sys.exit(exit_code(error))


def exit_code(error: UnclipError) -> int:
    """What the command ends with."""
    if isinstance(error, InvalidRequest):
        return EXIT_BAD_INPUT
    again = isinstance(error, ServiceFull | Unavailable | DeadlineExceeded)
    return EXIT_TRY_AGAIN if again else EXIT_FAILED


def explain(error: UnclipError) -> list[str]:
    """What to tell a person, a line for each wrong field."""
    if isinstance(error, InvalidRequest) and error.fields:
        return [f"{field} {text}" for field, text in error.fields.items()]
    return [str(error)]
