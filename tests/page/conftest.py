"""The page in a real browser, in front of a real gateway on loopback whose stages do as they are told."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from gateway.settings import SHIPPED
from tests.fakes.stages import FakeStages
from tests.http.conftest import Api, serving_http
from tests.stack.conftest import imported as imported
from tests.stack.conftest import receiver as receiver
from tests.stack.conftest import stack as stack

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# What the browser itself says of answers that the tests bring about.
EXPECTED = ("Failed to load resource", "net::ERR_")


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM, "Chromium is needed: apt-get install chromium"
    async with async_playwright() as playwright:
        # Containers have no user namespaces for its sandbox, and only our own page is opened.
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        await launched.close()


@dataclass
class Visit:
    """A person at the page. problems: what the page's console complained of."""

    page: Page
    context: BrowserContext
    api: Api
    problems: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return str(self.api.http.base_url)

    def watch(self, page: Page) -> Page:
        """Note what a page's console complains of."""
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._heard)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(text in message.text for text in EXPECTED):
            self.problems.append(message.text)

    async def open(self, view: str = "create") -> Page:
        """Open a view, when the service has been found."""
        await self.page.goto(f"{self.url}/#{view}")
        await self.page.locator("#service", has_text=f"{SHIPPED} 0").wait_for()
        return self.page

    async def press(self, name: str, **options: Any) -> None:
        """Press the button of this name."""
        await self.page.get_by_role("button", name=name, exact=True).click(**options)

    async def draw(self, prompt: str, count: int = 4) -> None:
        """Draw a prompt, and wait for all of its pictures."""
        await self.page.fill("#prompt", prompt)
        await self.press("Draw")
        await self.pictures(count)

    async def drawing(self) -> None:
        """Wait until a picture shows that is not finished."""
        await self.page.locator(".pending img:visible").first.wait_for()

    def hurry(self) -> None:
        """What slow stages draw is finished soon."""
        self.api.stages.step_seconds = 0.01

    async def pictures(self, count: int, within: str = ".task >> nth=0") -> None:
        """Wait for so many finished pictures."""
        tile = self.page.locator(within).locator(".tile[role=button]")
        await tile.nth(count - 1).wait_for(timeout=30_000)

    async def message(self) -> str:
        """The newest message on the page."""
        last = self.page.locator(".message p").last
        await last.wait_for()
        return await last.inner_text()


def slow(**more: Any) -> FakeStages:
    """Stages that draw for as long as a test looks on."""
    return FakeStages(step_seconds=1.0, default_steps=30, **more)


@contextlib.asynccontextmanager
async def visiting(
    browser: Browser, stages: FakeStages | None = None, *, view: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Visit]:
    """A fresh browser profile at a gateway with these settings, in front of these stages."""
    async with serving_http(stages or FakeStages(default_steps=4), **settings) as api:
        options = {"viewport": {"width": 1200, "height": 900}, "accept_downloads": True, **(view or {})}
        context = await browser.new_context(**options)
        context.set_default_timeout(15_000)
        visit = Visit(await context.new_page(), context, api)
        visit.watch(visit.page)
        try:
            yield visit
            assert not visit.problems, visit.problems
        finally:
            await context.close()
