"""The canvas: marking, painting, outpainting, and nothing lost; by pointer, by touch and by keys alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from tests.fakes.stages import FakeStages
from tests.gateway.conftest import png_of
from tests.http.test_openai_client import noise
from tests.page.conftest import Visit, visiting

pytestmark = pytest.mark.page
NOTE_WHAT_IS_SENT = """
  const fetch = window.fetch;
  window.fetch = (url, options) => {
    if (options?.body instanceof FormData) window.sent = options.body.get("image");
    return fetch(url, options);
  };
"""
HIDDEN_SHARE = """async () => {
  const bitmap = await createImageBitmap(window.sent);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return data.filter((value, i) => i % 4 === 3 && value === 0).length / (data.length / 4);
}"""


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


async def test_what_is_brushed_is_painted_and_the_rest_stays(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        before = await exported(page, tmp_path)
        await visit.press("Paint")
        await page.fill("#canvas-prompt", "an owl")
        await visit.press("Paint")
        assert "nothing to paint" in await visit.message()
        await page.get_by_label("Brush", exact=True).first.check()
        await drag(page, (0.45, 0.5), (0.55, 0.5))
        await paint(visit, "an owl")
        choices = page.get_by_role("radiogroup", name="Results").get_by_role("radio")
        assert await choices.count() == 5
        await choices.nth(3).check()
        await visit.press("Accept")
        after = await exported(page, tmp_path)
        changed = (before != after).any(axis=2)
        assert 0.005 < changed.mean() < 0.3
        assert not changed[:40].any()
        await visit.press("Undo")
        assert np.array_equal(await exported(page, tmp_path), before)
        await visit.press("Redo")
        assert np.array_equal(await exported(page, tmp_path), after)


async def test_every_marking_tool_and_its_way_back(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        await visit.page.add_init_script(NOTE_WHAT_IS_SENT)
        page = await with_picture(visit, tmp_path)

        async def marked() -> float:
            """The share of the frame that the service is asked to paint."""
            await visit.press("Paint")
            await page.get_by_text("Compare the results").wait_for()
            await visit.press("Discard all")
            return float(await page.evaluate(HIDDEN_SHARE))

        await page.fill("#canvas-prompt", "an owl")
        await page.get_by_label("Rectangle", exact=True).check()
        await drag(page, (0.4, 0.4), (0.6, 0.6))
        rectangle = await marked()
        assert 0.02 < rectangle < 0.3
        await page.get_by_label("Eraser").check()
        await drag(page, (0.4, 0.5), (0.6, 0.5))
        erased = await marked()
        assert erased < rectangle
        await visit.press("Undo")
        assert await marked() == rectangle
        await visit.press("Redo")
        assert await marked() == erased
        await visit.press("Invert")
        assert await marked() == pytest.approx(1 - erased, abs=0.01)
        await visit.press("Unmark")
        await page.get_by_label("Lasso").check()
        await drag(page, (0.4, 0.4), (0.6, 0.4), (0.5, 0.65))
        assert 0.01 < await marked() < rectangle
        await visit.press("Unmark")
        await numbers(page, "mark", 0, 0, 128, 64)
        await visit.press("Mark")
        assert await marked() == 0.125


async def test_outpainting_with_a_frame_moved_by_hand_and_by_numbers(
    browser: Browser, tmp_path: Path
) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        assert await fields(page) == [0, 0, 256, 256]
        await drag(page, (0.5, 0.5), (0.6, 0.5))
        x, y, width, height = await fields(page)
        assert x > 20
        assert (y, width, height) == (0, 256, 256)
        await numbers(page, "frame", 128, 0, 256, 256)
        before = await exported(page, tmp_path)
        await paint(visit, "a lake")
        await visit.press("Accept")
        after = await exported(page, tmp_path)
        assert after.shape == (256, 384, 4)
        assert np.array_equal(after[:, :256], before)
        assert (after[..., 3] == 255).all()
        await numbers(page, "frame", 0, -128, 256, 256)
        await paint(visit, "clouds")
        await visit.press("Discard all")
        assert np.array_equal(await exported(page, tmp_path), after)


async def test_zoom_pan_and_pictures_dropped_anywhere(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        zoom = await page.inner_text("#zoom")
        await page.locator("#stage").hover()
        await page.mouse.wheel(0, 300)
        await page.locator("#zoom").filter(has_not_text=zoom).wait_for()
        await visit.press("Fit")
        await page.get_by_label("Hand").check()
        await drag(page, (0.5, 0.5), (0.2, 0.5))
        data = await page.evaluate_handle(
            """async () => {
              const canvas = new OffscreenCanvas(64, 64);
              canvas.getContext("2d").fillRect(0, 0, 64, 64);
              const transfer = new DataTransfer();
              const file = new File([await canvas.convertToBlob()], "black.png", { type: "image/png" });
              transfer.items.add(file);
              return transfer;
            }"""
        )
        box = await page.locator("#stage").bounding_box()
        assert box
        place = {"clientX": box["x"] + 0.9 * box["width"], "clientY": box["y"] + 0.5 * box["height"]}
        await page.dispatch_event("#stage", "drop", {"dataTransfer": data, "bubbles": True, **place})
        await page.wait_for_timeout(500)
        found = await exported(page, tmp_path)
        assert found.shape[1] > 300
        assert (found[..., 3] == 0).any()


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


async def other_canvas(visit: Visit) -> None:
    """Leave this canvas for a new one."""
    await visit.press("Canvases")
    await visit.press("Begin a new canvas")
    await visit.page.locator("#undo:disabled").wait_for()


async def first_canvas(visit: Visit) -> None:
    """Go back to the canvas that has a picture."""
    await visit.press("Canvases")
    await (
        visit.page.locator(".canvases li", has=visit.page.locator("img[src]"))
        .get_by_role("button")
        .first.click()
    )
    await visit.page.locator("dialog").wait_for(state="detached")


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
    async with visiting(browser, FakeStages(step_seconds=0.3, default_steps=5)) as visit:
        page = await with_picture(visit, tmp_path)
        await visit.press("Invert")
        await page.fill("#canvas-prompt", "a lake")
        await visit.press("Paint")
        await page.get_by_text("0 of 4 painted").wait_for()
        await page.wait_for_timeout(700)
        await other_canvas(visit)
        assert not await page.locator("#staging").is_visible()
        await first_canvas(visit)
        await page.get_by_text("Compare the results").wait_for()
        await visit.press("Accept")
        assert (await exported(page, tmp_path)).shape == (256, 256, 4)


async def test_results_go_where_they_were_asked_for(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await with_picture(visit, tmp_path)
        await numbers(page, "frame", 128, 0, 256, 256)
        await paint(visit, "a lake")
        assert await page.locator("#frame-x:disabled").count() == 1
        await page.locator("nav").get_by_text("History").click()
        await page.locator("#gallery .tile").last.click()
        await visit.press("Put on the canvas")
        await page.wait_for_timeout(500)
        await visit.press("Accept")
        found = await exported(page, tmp_path)
        colours = {tuple(pixel) for pixel in found[:256, 256:384].reshape(-1, 4)}
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
        assert await other.locator("#undo:disabled").count() == 1
        await other.goto(f"{visit.url}/#history")
        assert await other.locator("#gallery .tile").count() == 1
        await page.goto(f"{visit.url}/#create")
        await visit.draw("a fox")
        await other.locator("#gallery .tile").nth(4).wait_for()


async def test_keys_alone_do_everything(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await page.focus("#prompt")
        await page.keyboard.type("a fox")
        await page.keyboard.press("Enter")
        await visit.pictures(4)
        await page.locator(".tile").first.focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Edit").focus()
        await page.keyboard.press("Enter")
        await page.locator("#undo:enabled").wait_for()
        await page.focus("#stage")
        for key in ("ArrowRight", "Shift+ArrowRight", "Alt+ArrowDown"):
            await page.keyboard.press(key)
        assert await fields(page) == [17, 0, 256, 272]
        await page.keyboard.press("r")
        await page.keyboard.press("Space")
        for _ in range(4):
            await page.keyboard.press("ArrowRight")
            await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Space")
        await page.keyboard.press("l")
        for key in ("Space", "ArrowUp", "Space", "ArrowLeft", "Space", "Enter", "b", "Space", "Control+z"):
            await page.keyboard.press(key)
        await page.focus("#canvas-prompt")
        await page.keyboard.type("an owl")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("Compare the results").wait_for()
        await page.get_by_role("radio", name="Result 1").focus()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.locator("#staging").wait_for(state="hidden")
        assert (await exported(page, tmp_path)).shape == (272, 273, 4)


async def test_fingers_draw_and_pinch(browser: Browser, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
    async with visiting(browser, view=phone) as visit:
        page = await with_picture(visit, tmp_path)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_label("Brush", exact=True).first.check()
        box = await page.locator("#stage").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await page.touchscreen.tap(x, y)
        zoom = await page.inner_text("#zoom")
        session = await visit.context.new_cdp_session(page)
        for kind, reach in (("touchStart", 20), ("touchMove", 60), ("touchMove", 90)):
            points = [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}]
            await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        await session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        await page.locator("#zoom").filter(has_not_text=zoom).wait_for()
        await paint(visit, "an owl")
        await visit.press("Accept")
