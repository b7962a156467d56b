"""What is on a canvas outlives whatever a person does: leaving it, reloading, another tab."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, expect

from tests.fakes.stages import FakeStages
from tests.page.canvas import exported, fields, first_canvas, numbers, other_canvas, paint, with_picture
from tests.page.conftest import slow, visiting

pytestmark = pytest.mark.page


async def test_the_canvas_and_its_results_outlive_a_reload(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser, FakeStages(default_steps=2)) as visit:
        page = await with_picture(visit, tmp_path)
        await numbers(page, "frame", 64, 0, 256, 256)
        before = await exported(page, tmp_path)
        await paint(visit, "a lake")
        await page.wait_for_timeout(1000)
        await page.reload()
        await page.get_by_text("Compare the results").wait_for()
        assert await fields(page) == [64, 0, 256, 256]
        assert np.array_equal(await exported(page, tmp_path), before)
        await visit.press("Accept")
        assert (await exported(page, tmp_path)).shape == (256, 320, 4)


async def test_canvases_do_not_overwrite_each_other(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        before = await exported(page, tmp_path)
        await page.fill("#canvas-prompt", "on the first")
        await other_canvas(visit)
        await page.fill("#canvas-prompt", "on the second")
        await page.wait_for_timeout(800)
        await first_canvas(visit)
        await page.fill("#canvas-prompt", "typed at once")
        assert np.array_equal(await exported(page, tmp_path), before)
        await page.wait_for_timeout(800)
        await page.reload()
        await page.locator("#frame-width").wait_for(state="attached")
        await page.wait_for_timeout(500)
        assert np.array_equal(await exported(page, tmp_path), before)
        assert await page.input_value("#canvas-prompt") == "typed at once"
        await visit.press("Canvases")
        await page.locator(".canvases li").nth(1).wait_for()


async def test_a_painting_goes_on_while_its_canvas_is_left(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser, slow()) as visit:
        page = await with_picture(visit, tmp_path)
        await visit.press("Invert")
        await page.fill("#canvas-prompt", "a lake")
        await visit.press("Paint")
        await page.get_by_text("0 of 4 painted").wait_for()
        await page.wait_for_timeout(700)
        await other_canvas(visit)
        await expect(page.locator("#staging")).to_be_hidden()
        await first_canvas(visit)
        visit.hurry()
        await page.get_by_text("Compare the results").wait_for()
        await visit.press("Accept")
        assert (await exported(page, tmp_path)).shape == (256, 256, 4)


async def test_results_go_where_they_were_asked_for(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        await numbers(page, "frame", 128, 0, 256, 256)
        await paint(visit, "a lake")
        await expect(page.locator("#frame-x:disabled")).to_have_count(1)
        await page.locator("nav").get_by_text("History").click()
        await page.locator("#gallery .tile").last.click()
        await visit.press("Put on the canvas")
        await page.wait_for_timeout(500)
        await visit.press("Accept")
        found = await exported(page, tmp_path)
        beside = 16  # px in which what was known goes over into what is painted
        colours = {tuple(pixel) for pixel in found[:256, 256 + beside : 384].reshape(-1, 4)}
        assert len(colours) == 1, "the results of fake stages are of one colour"


async def test_a_second_tab_has_a_canvas_of_its_own_and_shares_the_history(
    browser: Browser, tmp_path: Path
) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        await page.wait_for_timeout(1000)
        other = visit.watch(await visit.context.new_page())
        await other.goto(f"{visit.url}/#canvas")
        await other.get_by_text("open in other tabs").wait_for()
        await expect(other.locator("#undo:disabled")).to_have_count(1)
        await other.goto(f"{visit.url}/#history")
        await expect(other.locator("#gallery .tile")).to_have_count(1)
        await page.goto(f"{visit.url}/#create")
        await visit.draw("a fox")
        await other.locator("#gallery .tile").nth(4).wait_for()


async def test_a_drawing_of_a_tab_that_was_closed_can_be_gone_on_with(browser: Browser) -> None:
    async with visiting(browser, slow()) as visit:
        page = await visit.open()
        await page.fill("#prompt", "a fox")
        await visit.press("Draw")
        await visit.drawing()
        other = visit.watch(await visit.context.new_page())
        await other.goto(visit.url)
        await other.get_by_text("drawn in another tab").wait_for()
        assert not await other.get_by_role("button", name="Try again").is_visible()
        visit.hurry()
        await page.close()
        await other.get_by_role("button", name="Try again").click()
        await other.locator(".tile[role=button]").nth(3).wait_for()


async def test_a_frame_too_far_away_is_not_painted(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        await numbers(page, "frame", 9000, 0, 256, 256)
        await page.fill("#canvas-prompt", "a lake")
        await visit.press("Paint")
        assert "8192 px" in await visit.message()
        assert not visit.api.stages.pictures
