"""The command line's parts that need no gateway."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from gateway.cli import contact_sheet, numbered
from tests.stack.conftest import png_of


def test_pictures_are_numbered_before_the_suffix() -> None:
    assert numbered(Path("a/fox.png"), 0) == Path("a/fox-1.png")


def test_a_contact_sheet_holds_every_picture() -> None:
    colours = ["red", "green", "blue"]
    sheet = Image.open(io.BytesIO(contact_sheet([png_of(Image.new("RGB", (20, 20), c)) for c in colours])))
    assert sheet.size == (2 * 28 + 8, 2 * 28 + 8)
    found = {sheet.getpixel(at) for at in ((18, 18), (46, 18), (18, 46))}
    assert found == {(255, 0, 0), (0, 128, 0), (0, 0, 255)}
