"""Picture files: the format their name says, numbers in names, and contact sheets."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import click
from PIL import Image

from gateway.replacing import replacing
from unclip.v1 import image_service_pb2 as pb

SHEET_GAP = 8
FORMATS = {
    ".png": pb.OUTPUT_FORMAT_PNG,
    ".webp": pb.OUTPUT_FORMAT_WEBP,
    ".jpg": pb.OUTPUT_FORMAT_JPEG,
    ".jpeg": pb.OUTPUT_FORMAT_JPEG,
}


def format_of(path: Path, option: str = "--output") -> pb.OutputFormat.ValueType:
    """The format that a file's name asks for."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        reason = f"{path}: the name must end in {', '.join(FORMATS)}"
        raise click.BadParameter(reason, param_hint=f"'{option}'")
    return found


class Files:
    """Where a request's pictures go: fox.png or, if there are several, fox-1.png, fox-2.png and so on."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self.count = max(count, 1)

    def __getitem__(self, index: int) -> Path:
        """The file of picture ``index``, from 0."""
        path = self._path
        return path if self.count == 1 else path.with_stem(f"{path.stem}-{index + 1}")


def require_writable(path: Path) -> None:
    """Raises ClickException if no file can be written there, before minutes of drawing."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be made: {error.strerror}") from None
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise click.ClickException(f"{path} cannot be written")


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, with its folder. Raises ClickException."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


def write_sheet(path: Path, files: Sequence[bytes]) -> None:
    """All pictures on one, in rows."""
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    columns = math.ceil(math.sqrt(len(pictures)))
    width, height = (max(p.size[axis] for p in pictures) + SHEET_GAP for axis in (0, 1))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * width + SHEET_GAP, rows * height + SHEET_GAP), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (SHEET_GAP + i % columns * width, SHEET_GAP + i // columns * height))
    file = io.BytesIO()
    sheet.save(file, Image.registered_extensions()[path.suffix.lower()])
    write(path, file.getvalue())
