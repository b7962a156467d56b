"""The page on the real stack: from an empty browser to an outpainted, edited picture in a file.

Each step leaves a picture of the page in out/page; docs/page has those that are shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from gateway.cli.provenance import read
from services.bundles.bundle import ROOT
from tests.stack.conftest import Addresses

pytestmark = pytest.mark.page
SHOTS = ROOT / "out/page"
MILLISECONDS = 240_000  # a loaded machine takes its time


@pytest.fixture
async def page(stack: Addresses, browser: Browser) -> AsyncIterator[Page]:
    """An empty browser at the real service."""
    context = await browser.new_context(viewport={"width": 1200, "height": 860})
    context.set_default_timeout(MILLISECONDS)
    page = await context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(stack.http)
    yield page
    await context.close()
    assert not problems, problems


async def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}.jpg", quality=75)


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def paint(page: Page, prompt: str, shot: str) -> None:
    """Paint in the frame, and accept the second result."""
    await page.fill("#canvas-prompt", prompt)
    await press(page, "Paint")
    await page.get_by_text("Compare the results").wait_for()
    await page.get_by_role("radiogroup", name="Results").get_by_role("radio").nth(2).check()
    await page.wait_for_timeout(300)
    await shoot(page, shot)
    await press(page, "Accept")


async def test_from_an_empty_browser_to_an_outpainted_and_edited_picture(page: Page, tmp_path: Path) -> None:
    await page.locator("#service", has_text="unclip-emoji").wait_for()
    await page.get_by_text("Settings", exact=True).click()
    await page.fill("#seed", "20")
    await page.get_by_text("Settings", exact=True).click()
    await page.fill("#prompt", "a red fox in a green meadow")
    await press(page, "Draw")
    await page.locator(".pending img:visible").first.wait_for()
    await shoot(page, "1-drawing")
    await page.locator(".tile[role=button]").nth(3).wait_for()
    await shoot(page, "2-drawn")
    await page.locator(".tile").first.click()
    await page.wait_for_timeout(200)
    await shoot(page, "3-picture")
    await press(page, "Edit")
    await page.get_by_label("Brush", exact=True).first.check()
    box = await page.locator("#stage").bounding_box()
    assert box
    await page.locator("#brush-size").fill("60")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    scale = float((await page.inner_text("#zoom")).rstrip(" %")) / 100
    await page.mouse.move(x - 85 * scale, y - 75 * scale)
    await page.mouse.down()
    await page.mouse.move(x - 65 * scale, y - 70 * scale, steps=5)
    await page.mouse.up()
    await shoot(page, "4-marked")
    await paint(page, "a hot air balloon in a green meadow", "5-edited")
    await page.get_by_text("Frame and marks by numbers").click()
    await page.fill("#frame-x", "128")
    await page.press("#frame-x", "Tab")
    await press(page, "Fit")
    await paint(page, "a castle in a green meadow", "6-outpainted")
    await press(page, "Fit")
    await page.wait_for_timeout(300)
    await shoot(page, "7-canvas")
    async with page.expect_download() as started:
        await press(page, "Export")
    await (await started.value).save_as(tmp_path / "canvas.png")
    made = np.asarray(Image.open(tmp_path / "canvas.png"))
    assert made.shape == (256, 384, 4)
    assert (made[..., 3] == 255).all()
    await page.locator("nav").get_by_text("History").click()
    await page.locator("#gallery .tile").nth(11).wait_for()
    await shoot(page, "8-history")
    await page.locator("#gallery .tile").last.click()
    async with page.expect_download() as started:
        await press(page, "Download")
    await (await started.value).save_as(tmp_path / "fox.png")
    assert read(tmp_path / "fox.png").valid


async def test_variations_and_mixes_of_real_pictures(page: Page) -> None:
    await page.fill("#prompt", "an owl in the snow")
    await press(page, "Draw")
    await page.locator(".tile[role=button]").nth(3).wait_for()
    await page.locator(".tile").first.click()
    await press(page, "Variations")
    await press(page, "Draw variations")
    await page.locator(".task >> nth=0").locator(".tile[role=button]").nth(3).wait_for()
    await page.fill("#prompt", "a red car on a sandy beach")
    await press(page, "Draw")
    await page.locator(".task >> nth=0").locator(".tile[role=button]").nth(3).wait_for()
    await page.locator(".tile").nth(0).drag_to(page.locator(".task >> nth=1").locator(".tile").nth(0))
    await shoot(page, "9-mix")
    await press(page, "Mix")
    await page.locator(".task >> nth=0").locator(".tile[role=button]").nth(3).wait_for()
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.emulate_media(color_scheme="dark")
    await page.wait_for_timeout(300)
    await shoot(page, "10-phone")
