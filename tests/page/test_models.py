"""The choice of a model, where there is one."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from gateway.settings import SHIPPED
from tests.fakes.stages import FakeStages
from tests.page.conftest import visiting

pytestmark = pytest.mark.page


async def test_a_model_is_chosen_where_there_are_several(browser: Browser) -> None:
    async with visiting(browser, models={SHIPPED: {}, "second": {}}) as visit:
        bodies: list[str] = []
        visit.page.on("request", lambda request: bodies.append(request.post_data or ""))
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        assert await page.locator("#model option").all_inner_texts() == [SHIPPED, "second"]
        await page.get_by_label("Model").select_option("second")
        await page.locator("#service", has_text="second 0").wait_for()
        await visit.draw("a fox")
        assert [body for body in bodies if '"model":"second"' in body]
        await page.reload()
        await page.locator("#service", has_text="second 0").wait_for()


async def test_there_is_no_choice_of_one_model(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await expect(page.get_by_label("Model")).to_be_hidden()


async def test_shapes_that_are_not_square_are_offered_where_they_are_drawn(browser: Browser) -> None:
    async with visiting(browser, FakeStages(shape_multiple=64)) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_label("Size").select_option("384 × 256")
        await visit.draw("a fox")
        assert {(asked.width, asked.size) for asked in visit.api.stages.pictures} == {(384, 256)}
        await page.get_by_role("button", name="Request").first.click()
        grpc = page.locator("pre", has_text="grpcurl")
        await expect(grpc).to_contain_text('"shape"')
