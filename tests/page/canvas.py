"""Steps of a person on the canvas, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.async_api import Page, expect

from tests.gateway.conftest import png_of
from tests.http.test_openai_client import noise
from tests.page.conftest import Visit


async def with_picture(visit: Visit, tmp_path: Path, width: int = 256, height: int = 256) -> Page:
    """The canvas with a picture of one's own."""
    (tmp_path / "mine.png").write_bytes(png_of(noise(width, height)))
    page = await visit.open("canvas")
    async with page.expect_file_chooser() as choosing:
        await visit.press("Add picture")
    await (await choosing.value).set_files(tmp_path / "mine.png")
    await page.get_by_role("button", name="Undo", exact=True).and_(page.locator(":enabled")).wait_for()
    return page


async def drag(page: Page, *points: Sequence[float]) -> None:
    """Press at the first point, and go along the others. Points are shares of the stage."""
    box = await page.locator("#stage").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    await page.mouse.move(*places[0])
    await page.mouse.down()
    for place in places[1:]:
        await page.mouse.move(*place, steps=6)
    await page.mouse.up()


async def paint(visit: Visit, prompt: str) -> None:
    """Paint in the frame, and wait until all results are there."""
    await visit.page.fill("#canvas-prompt", prompt)
    await visit.press("Paint")
    await visit.page.get_by_text("Compare the results").wait_for()


async def exported(page: Page, tmp_path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 4) of the exported canvas."""
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Export", exact=True).click()
    await (await started.value).save_as(tmp_path / "export.png")
    return np.asarray(Image.open(tmp_path / "export.png").convert("RGBA"))


async def fields(page: Page) -> list[int]:
    return [int(await page.input_value(f"#frame-{name}")) for name in ("x", "y", "width", "height")]


async def numbers(page: Page, prefix: str, *values: int) -> None:
    """Type a rectangle."""
    details = page.locator("details", has=page.locator(f"#{prefix}-x"))
    if await details.get_attribute("open") is None:
        await details.locator("summary").click()
    for name, value in zip(("x", "y", "width", "height"), values, strict=True):
        await page.fill(f"#{prefix}-{name}", str(value))
        await page.press(f"#{prefix}-{name}", "Tab")


async def other_canvas(visit: Visit) -> None:
    """Leave this canvas for a new one."""
    await visit.press("Canvases")
    await visit.press("Begin a new canvas")
    await visit.page.locator("dialog").wait_for(state="detached")
    await expect(visit.page.locator("#canvas-prompt")).to_have_value("")


async def first_canvas(visit: Visit) -> None:
    """Go back to the canvas that has a picture."""
    await visit.press("Canvases")
    await (
        visit.page.locator(".canvases li", has=visit.page.locator("img[src]"))
        .get_by_role("button")
        .first.click()
    )
    await visit.page.locator("dialog").wait_for(state="detached")
