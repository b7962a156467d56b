"""Things go wrong: each ends in a sentence that says what to do, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser, Download, Page, Route, expect

from gateway.settings import SHIPPED
from gateway.tokens import new_token, write_tokens
from services.wire.errors import InvalidInput
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import until
from tests.page.conftest import Visit, slow, visiting

pytestmark = pytest.mark.page
# The transaction is given up, as when a disk is full, until the test says otherwise.
FULL_STORAGE = """
  window.full = true;
  const put = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = function (value) {
    const request = put.call(this, value);
    if (window.full && this.name === "pictures") this.transaction.abort();
    return request;
  };
"""
NO_STORAGE = """
  const refused = () => { throw new DOMException("refused", "SecurityError"); };
  IDBFactory.prototype.open = refused;
  Object.defineProperty(window, "localStorage", { get: refused });
"""
PENDING_PERMISSION = "StorageManager.prototype.persist = () => new Promise(() => {});"


async def ask(visit: Visit, prompt: str = "a fox") -> Page:
    """Begin to draw."""
    page = await visit.open()
    await page.fill("#prompt", prompt)
    await visit.press("Draw")
    return page


async def problem(page: Page, text: str) -> None:
    """Wait until the newest drawing says this."""
    await page.locator(".task >> nth=0").locator(".problem", has_text=text).wait_for(timeout=30_000)


async def test_the_gateway_goes_while_it_draws(browser: Browser) -> None:
    async with visiting(browser, slow()) as visit:
        page = await ask(visit)
        await visit.drawing()
        await visit.api.gateway.stop(0)
        await problem(page, "try again")
        assert await page.locator(".task h2").first.inner_text() == "a fox"
        assert await page.get_by_role("button", name="Try again").first.is_visible()


async def test_the_service_is_full_and_asked_again_when_it_said(browser: Browser) -> None:
    async with visiting(browser, slow(), max_requests=1) as visit:
        page = await ask(visit, "a fox")
        await visit.drawing()
        await page.fill("#prompt", "an owl")
        await visit.press("Draw")
        await problem(page, "asking again in")
        visit.hurry()
        await visit.pictures(4, ".task >> nth=0")
        await visit.pictures(4, ".task >> nth=1")


async def test_a_huge_picture_is_reduced_and_what_is_none_is_refused(
    browser: Browser, tmp_path: Path
) -> None:
    Image.new("RGB", (6000, 4000), "red").save(tmp_path / "huge.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "text.txt").write_text("no picture")
    async with visiting(browser) as visit:
        page = await visit.open()

        async def give(name: str) -> str:
            async with page.expect_file_chooser() as choosing:
                await visit.press("choose a file")
            await (await choosing.value).set_files(tmp_path / name)
            return await visit.message()

        assert "no PNG, JPEG or WebP" in await give("text.txt")
        await page.locator(".message button").first.click()
        assert "cannot read" in await give("broken.png")
        await page.locator(".message button").first.click()
        assert "Reduced from 6000" in await give("huge.png")
        await visit.press("Variations")
        await visit.press("Draw variations")
        await visit.pictures(4)


async def test_storage_is_full_and_the_pictures_can_still_be_had(browser: Browser) -> None:
    async with visiting(browser) as visit:
        await visit.page.add_init_script(FULL_STORAGE)
        page = await ask(visit)
        await visit.pictures(4)
        assert "4 of your pictures are only in this page" in await visit.message()
        downloads: list[Download] = []
        page.on("download", lambda download: downloads.append(download))
        await visit.press("Download 4")
        await until(lambda: len(downloads) == 4)
        await page.locator("nav").get_by_text("History").click()
        await page.evaluate("window.full = false")
        await page.locator("#gallery .tile").first.click()
        await visit.press("Delete")
        await page.locator("dialog").last.get_by_role("button", name="Delete", exact=True).click()
        await page.locator("#gallery .tile").nth(3).wait_for(state="detached")
        await page.wait_for_timeout(500)
        await page.reload()
        await page.locator("#gallery .tile").nth(2).wait_for()


@pytest.mark.parametrize("script", [NO_STORAGE, PENDING_PERMISSION], ids=["refused", "asked for"])
async def test_a_browser_that_keeps_nothing_still_draws(browser: Browser, script: str) -> None:
    async with visiting(browser) as visit:
        await visit.page.add_init_script(script)
        page = await ask(visit)
        await visit.pictures(4)
        await page.locator(".tile[role=button]").first.click()
        await visit.press("Edit")
        await page.locator("#undo:enabled").wait_for()
        await page.fill("#canvas-prompt", "an owl")
        await visit.press("Invert")
        await visit.press("Paint")
        await page.get_by_text("Compare the results").wait_for()
        await visit.press("Accept")


async def test_a_reload_in_the_middle_keeps_what_came_and_the_rest_can_be_drawn(browser: Browser) -> None:
    async with visiting(browser, slow()) as visit:
        page = await ask(visit)
        await visit.drawing()
        await page.reload()
        await problem(page, "interrupted")
        await until(lambda: visit.api.stages.sampling == 0)
        visit.hurry()
        before = len(visit.api.stages.pictures)
        await page.get_by_role("button", name="Try again").first.click()
        await visit.pictures(4)
        seeds = [picture.task.seed for picture in visit.api.stages.pictures]
        assert set(seeds[before:]) == set(seeds[:4])


async def test_a_slow_network_shows_progress_and_ends_well(browser: Browser) -> None:
    async with visiting(browser, slow()) as visit:
        page = await visit.open()
        session = await visit.context.new_cdp_session(page)
        speed = {"offline": False, "latency": 300, "downloadThroughput": 20_000, "uploadThroughput": 20_000}
        await session.send("Network.enable")
        await session.send("Network.emulateNetworkConditions", speed)
        await page.fill("#prompt", "a fox")
        await visit.press("Draw")
        await page.locator(".pending progress:visible").first.wait_for()
        await page.locator(".pending p", has_text="step").first.wait_for()
        visit.hurry()
        await visit.pictures(4)


async def test_cancelled_work_ends_in_the_service_too(browser: Browser) -> None:
    async with visiting(browser, slow()) as visit:
        page = await ask(visit)
        await visit.drawing()
        await visit.press("Cancel")
        await problem(page, "Cancelled")
        await until(lambda: visit.api.stages.sampling == 0)
        await until(lambda: visit.api.gateway.models.places._requests == 0)


async def test_offline_is_said_and_over_when_it_is(browser: Browser) -> None:
    async with visiting(browser) as visit:
        await visit.open()
        await visit.context.set_offline(True)
        await visit.page.fill("#prompt", "a fox")
        await visit.press("Draw")
        await problem(visit.page, "You are offline")
        await visit.context.set_offline(False)
        await visit.press("Try again")
        await visit.pictures(4)


async def test_what_the_service_refuses_is_told_in_its_words(browser: Browser) -> None:
    stages = FakeStages(refusal=InvalidInput(("task.steps", "is odd")))
    async with visiting(browser, stages) as visit:
        page = await ask(visit)
        await page.locator(".task .problem").first.wait_for()
        assert "Try again" in await page.locator(".task .problem").first.inner_text()
        await page.get_by_text("Settings", exact=True).click()
        await page.fill("#steps", "9999")
        await visit.press("Draw")
        await expect(page.locator("#steps:invalid")).to_have_count(1)
        await expect(page.locator(".task")).to_have_count(1)


async def test_one_picture_that_fails_leaves_the_others(browser: Browser) -> None:
    async with visiting(browser, FakeStages(step_seconds=0.05, default_steps=3)) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await page.fill("#seed", "10")
        visit.api.stages.refusals = {12: InvalidInput(("task", "is odd"))}
        await page.fill("#prompt", "a fox")
        await visit.press("Draw")
        await problem(page, "3 of 4 pictures came and are kept")
        visit.api.stages.refusals = {}
        await visit.press("Try again")
        await visit.pictures(4)
        seeds = [picture.task.seed for picture in visit.api.stages.pictures]
        assert seeds[4:] == [12]


async def test_an_api_key_is_asked_for_and_kept(browser: Browser, tmp_path: Path) -> None:
    token, key = new_token("me", "me", ["generate", "embed"], None)
    write_tokens(tmp_path / "tokens.json", [token])
    async with visiting(browser, tokens=str(tmp_path / "tokens.json")) as visit:
        page = visit.page
        await page.goto(visit.url)
        await page.get_by_label("Your key").fill("wrong …")
        await visit.press("Use it")
        assert "letters that no key has" in await visit.message()
        await visit.press("Key")
        await page.get_by_label("Your key").fill("wrong")
        await visit.press("Use it")
        await page.get_by_text("does not accept this API key").first.wait_for()
        await page.get_by_label("Your key").fill(key)
        await visit.press("Use it")
        await page.locator("#service", has_text=f"{SHIPPED} 0").wait_for()
        await visit.draw("a fox")
        await page.reload()
        await page.locator("#service", has_text=f"{SHIPPED} 0").wait_for()
        await page.locator(".tile").first.click()
        await visit.press("Edit")
        await visit.press("Invert")
        await page.fill("#canvas-prompt", "an owl")
        await visit.press("Paint")
        await page.locator("#canvas-status", has_text="does not allow this").wait_for()
        await visit.press("Key")


async def test_a_service_that_comes_later_is_found(browser: Browser) -> None:
    async with visiting(browser) as visit:
        gone = asyncio.Event()

        async def down(route: Route) -> None:
            if gone.is_set():
                await route.continue_()
            else:
                await route.abort()

        await visit.page.route("**/v1/models", down)
        await visit.page.goto(visit.url)
        await visit.page.get_by_text("The service does not answer").first.wait_for()
        gone.set()
        await visit.page.locator("#service", has_text=f"{SHIPPED} 0").wait_for()
