"""The command line: its files, and what it does when a gateway is full or a picture fails."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from gateway.cli.files import Files, format_of, write_sheet
from services.wire.errors import Overloaded
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, fronting, png_of, until
from unclip.v1 import image_service_pb2 as pb


def test_pictures_are_numbered_before_the_suffix() -> None:
    assert Files(Path("a/fox.png"), 2)[0] == Path("a/fox-1.png")
    assert Files(Path("a/fox.png"), 1)[0] == Path("a/fox.png")


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


async def unclip(front: Front, folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and all that is said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.cli", *arguments),
        cwd=folder,
        env={**os.environ, "UNCLIP_ADDRESS": f"127.0.0.1:{front.gateway.port}", "PYTHONPATH": os.getcwd()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


async def test_a_full_service_is_asked_again_after_the_delay_it_tells(tmp_path: Path) -> None:
    stages = FakeStages(delay=60)
    async with fronting(stages, max_requests=1) as front:
        held = asyncio.ensure_future(front.images.Generate(FOX))
        await until(lambda: bool(stages.tasks))
        code, said = await unclip(front, tmp_path, "--no-wait", "generate", "a fox")
        assert code == 3
        assert "try again in" in said
        waiting = asyncio.ensure_future(unclip(front, tmp_path, "generate", "a fox"))
        await asyncio.sleep(1.5)
        assert not waiting.done()
        stages.delay = 0
        held.cancel()
        code, said = await waiting
        assert code == 0, said
        assert (tmp_path / "unclip.png").exists()
        await asyncio.gather(held, return_exceptions=True)


@pytest.mark.parametrize("option", ["-o", "--sheet"])
async def test_a_file_that_has_no_format_is_refused_before_anything_is_drawn(
    tmp_path: Path, option: str
) -> None:
    async with fronting(FakeStages()) as front:
        code, said = await unclip(front, tmp_path, "generate", "a fox", option, "fox.tiff")
        assert code == 2
        assert ".png" in said
        assert not front.stages.tasks


async def test_what_is_finished_is_written_though_another_picture_fails(tmp_path: Path) -> None:
    stages = FakeStages(refusals={3: Overloaded("the queue is full", 5.0)}, step_seconds=0.2)
    async with fronting(stages) as front:
        code, said = await unclip(
            front, tmp_path, "--no-wait", "generate", "a fox", "-n", "3", "--seed", "1", "-o", "fox.webp"
        )
        assert code == 3
        assert "seed 1" in said
        assert sorted(file.name for file in tmp_path.iterdir()) == ["fox-1.webp", "fox-2.webp"]
