"""WCAG 2.2 AA, as far as axe sees, in every view, on a desktop and on a phone, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from tests.page.conftest import slow, visiting

pytestmark = pytest.mark.page
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
DESKTOP = {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True}


async def findings(page: Page) -> list[str]:
    """What axe finds, and whether the page is wider than the screen."""
    found: Any = (await Axe().run(page, options=RULES)).response["violations"]
    told = [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]
    if not await page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        told.append("wider than the screen")
    return told


@pytest.mark.parametrize("view", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing(browser: Browser, view: dict[str, Any]) -> None:
    async with visiting(browser, slow(), view=view) as visit:
        page = await visit.open()
        assert await findings(page) == []
        await page.fill("#prompt", "a fox")
        await visit.press("Draw")
        await visit.drawing()
        assert await findings(page) == []
        visit.hurry()
        await visit.pictures(4)
        assert await findings(page) == []
        for name in ("Variations", "Captions", "Request", "Collections", "Delete"):
            await page.locator(".tile").first.click()
            assert await findings(page) == []
            await visit.press(name) if name != "Request" else await (
                page.locator("dialog").get_by_text("Request").click()
            )
            assert await findings(page) == [], name
            while await page.locator("dialog").count():
                await page.keyboard.press("Escape")
        await page.locator(".tile").first.click()
        await visit.press("Edit")
        for summary in await page.locator("#canvas summary").all():
            await summary.click()
        assert await findings(page) == []
        await page.fill("#canvas-prompt", "an owl")
        await visit.press("Invert")
        await visit.press("Paint")
        await page.get_by_text("Compare the results").wait_for()
        assert await findings(page) == []
        await page.goto(f"{visit.url}/#history")
        await page.locator("#gallery .tile").first.wait_for()
        assert await findings(page) == []
