"""The canvas: marking, painting, outpainting, and nothing lost; by pointer, by touch and by keys alone."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, expect

from tests.page.canvas import drag, exported, fields, numbers, paint, with_picture
from tests.page.conftest import visiting

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
        await expect(choices).to_have_count(5)
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
        deadline = time.monotonic() + 15
        while (found := await exported(page, tmp_path)).shape[1] <= 300:
            assert time.monotonic() < deadline, "the dropped picture does not lie beside the other"
            await page.wait_for_timeout(250)
        assert (found[..., 3] == 0).any()


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
