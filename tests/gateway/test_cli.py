"""The command line's parts that need no gateway."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from PIL import Image

from gateway.cli.files import format_of, numbered, write_sheet
from tests.gateway.conftest import png_of
from unclip.v1 import image_service_pb2 as pb


def test_pictures_are_numbered_before_the_suffix() -> None:
    assert numbered(Path("a/fox.png"), 0) == Path("a/fox-1.png")


def test_a_contact_sheet_holds_every_picture(tmp_path: Path) -> None:
    colours = ["red", "green", "blue"]
    write_sheet(tmp_path / "sheet.png", [png_of(Image.new("RGB", (20, 20), c)) for c in colours])
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (2 * 28 + 8, 2 * 28 + 8)
    found = {sheet.getpixel(at) for at in ((18, 18), (46, 18), (18, 46))}
    assert found == {(255, 0, 0), (0, 128, 0), (0, 0, 255)}


def test_a_files_name_says_its_format() -> None:
    assert format_of(Path("a.JPG")) == pb.OUTPUT_FORMAT_JPEG
    with pytest.raises(click.BadParameter, match="webp"):
        format_of(Path("a.gif"))
