"""Sources on the command line: files or prompts, and their weights."""

from __future__ import annotations

from pathlib import Path

import click

from unclip.v1 import image_service_pb2 as pb

OPTION = "--weights"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def source_of(given: str) -> pb.Source:
    """A file's picture; a prompt, if there is no such file."""
    path = Path(given)
    if path.suffix.lower() in PICTURES and not path.is_file():
        raise click.BadParameter(f"there is no file {given!r}", param_hint="SOURCES")
    return pb.Source(picture=path.read_bytes()) if _is_file(path) else pb.Source(prompt=given)


class Weighted(click.Command):
    """A command whose --weights takes several numbers: --weights 0.6 0.4."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, each number with the option before it."""
        spread: list[str] = []
        weighing = False
        for arg in args:
            if weighing and _is_number(arg):
                spread += [OPTION, arg]
            elif arg == OPTION:
                weighing = True
            else:
                weighing = False
                spread.append(arg)
        return super().parse_args(ctx, spread)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long is a prompt
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
