"""Values on the command line: sources (files or prompts) and their weights, and sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


class SizeType(click.ParamType[int | tuple[int, int]]):
    """A square's side, or WIDTHxHEIGHT, in px."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        """An int, or two."""
        found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is neither a side (512) nor WIDTHxHEIGHT (768x512)", param, ctx)
        width, height = found.groups()
        return int(width) if height is None else (int(width), int(height))


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
