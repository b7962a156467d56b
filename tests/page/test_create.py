"""Prompts, variations, mixes, captions, history: each done as a person would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from playwright.async_api import Browser, expect

from gateway.cli.provenance import read
from gateway.http.labs import FOLDER
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import png_of
from tests.http.test_openai_client import noise
from tests.page.conftest import Visit, slow, visiting
from unclip.internal.v1.decoder_service_pb2 import SampleDecoderRequest
from unclip.internal.v1.sampling_pb2 import SamplingTask
from unclip.v1 import image_service_pb2 as pb

pytestmark = pytest.mark.page
MOST_BYTES = 200_000


async def test_it_is_light_and_fetches_nothing_from_elsewhere(browser: Browser) -> None:
    async with visiting(browser) as visit:
        fetched: list[str] = []
        visit.page.on("request", lambda request: fetched.append(request.url))
        answer = await visit.page.goto(visit.url)
        await visit.open()
        assert all(url.startswith((visit.url, "data:", "blob:")) for url in fetched), fetched
        assert answer
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


async def test_a_prompt_becomes_four_pictures_with_previews_and_a_place_in_the_queue(
    browser: Browser,
) -> None:
    async with visiting(browser, slow()) as visit:
        page = await visit.open()
        await page.fill("#prompt", "a fox")
        await page.press("#prompt", "Enter")
        await visit.drawing()
        assert "step" in await page.locator(".pending p").first.inner_text()
        visit.hurry()
        await visit.pictures(4)
        assert await page.locator(".task h2").first.inner_text() == "a fox"
        seeds = {task.seed for task in visit.api.stages.tasks}
        assert len(seeds) == 4


async def test_settings_go_with_the_request(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await page.fill("#count", "2")
        await page.select_option("#size", "64x64")
        await page.fill("#seed", "7")
        await page.fill("#steps", "3")
        await page.fill("#guidance", "2.5")
        await page.fill("#negative", "rain")
        await visit.draw("a fox", 2)
        asked = visit.api.stages.pictures[-1]
        assert (asked.size, asked.task.steps, asked.task.guidance) == (64, 3, 2.5)
        assert {picture.task.seed for picture in visit.api.stages.pictures} == {7, 8}
        assert "rain" in visit.api.stages.texts


async def test_surprise_me_draws_something_by_itself(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await visit.press("Surprise me")
        await visit.pictures(4)
        assert await page.locator(".task h2").first.inner_text() == await page.input_value("#prompt")


async def test_variations_and_words_that_turn_them(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await visit.draw("a cat")
        await page.locator(".tile").first.click()
        await visit.press("Variations")
        await page.locator("dialog input[type=range]").fill("0.6")
        await page.get_by_text("Turn it by words").click()
        await page.get_by_label("What it shows", exact=True).fill("a cat")
        await page.get_by_label("What it shall show instead").fill("a lion")
        await visit.press("Draw variations")
        await visit.pictures(4)
        assert "Variations of: a cat" in await page.locator(".task h2").first.inner_text()
        assert visit.api.stages.pictures[-1].start.similarity == pytest.approx(0.6)
        assert "a lion" in visit.api.stages.texts


async def test_dragging_one_picture_onto_another_mixes_them(browser: Browser) -> None:
    async with visiting(browser, FakeStages(lengths=True, default_steps=2)) as visit:
        page = await visit.open()
        await visit.draw("a cat")
        await page.locator(".tile").nth(0).drag_to(page.locator(".tile").nth(1))
        await page.get_by_label("And words, if you like").fill("in the snow")
        await visit.press("Mix")
        await visit.pictures(4)
        assert "Mix of" in await page.locator(".task h2").first.inner_text()
        assert "in the snow" in visit.api.stages.texts
        await page.locator(".tile").nth(0).click()
        await visit.press("Mix …")
        await page.locator(".tile").nth(1).click()
        await visit.press("Mix with the chosen one")
        await page.get_by_label("Pictures on the way").fill("3")
        await visit.press("Draw the way")
        await visit.pictures(3)
        assert "From" in await page.locator(".task h2").first.inner_text()


async def test_captions_are_ranked(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await visit.draw("a cat")
        await page.locator(".tile").first.click()
        await visit.press("Captions")
        await page.get_by_label("Captions, one on each line").fill("a fox\nan owl\n\na fox")
        await visit.press("Which fits best?")
        await page.locator(".ranking li").nth(1).wait_for()
        await expect(page.locator(".ranking li")).to_have_count(2)


async def test_history_keeps_favourites_collections_and_all_pictures(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await visit.draw("a cat")
        await visit.draw("an owl")
        await page.locator(".tile").first.click()
        await visit.press("☆ Favourite")
        await visit.press("Collections")
        await visit.press("New collection with this picture")
        await page.get_by_label("Name").fill("Birds")
        await visit.press("Make it")
        await page.wait_for_timeout(500)  # it is being kept
        await page.reload()
        await page.locator("nav").get_by_text("History").click()
        gallery = page.locator("#gallery .tile")
        await gallery.nth(7).wait_for()
        await page.fill("#search", "owl")
        await expect(gallery).to_have_count(4)
        await page.fill("#search", "")
        await page.select_option("#filter", label="favourites")
        await expect(gallery).to_have_count(1)
        await page.select_option("#filter", label="Birds")
        await expect(gallery).to_have_count(1)
        await gallery.first.click()
        await visit.press("Delete")
        await page.locator("dialog").last.get_by_role("button", name="Delete", exact=True).click()
        await page.locator("#gallery-empty").wait_for()
        await visit.press("Undo")
        await gallery.first.wait_for()


async def test_a_download_has_its_seed_and_settings_in_the_file(browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await page.fill("#seed", "41")
        await visit.draw("a cat")
        await page.locator(".tile").first.click()
        async with page.expect_download() as started:
            await visit.press("Download")
        saved = await started.value
        assert "seed-41" in saved.suggested_filename
        await saved.save_as(tmp_path / "cat.png")
        report = read(tmp_path / "cat.png")
        assert report.valid
        assert any("seed 41" in line for line in report.lines), report.lines


async def test_requests_do_the_same_from_programs(browser: Browser, tmp_path: Path) -> None:
    """Of every flow: curl and Python are run, and the gRPC message is read; all ask the decoder the same."""
    async with visiting(browser, FakeStages(lengths=True, default_steps=2)) as visit:
        page = await visit.open()
        await page.get_by_text("Settings", exact=True).click()
        await page.select_option("#size", "64x64")
        await page.fill("#steps", "3")
        await page.fill("#count", "2")
        await visit.draw('@a cat\'s $HOME `x` "y" \\n;type=a', 2)
        await same_from_programs(visit, tmp_path, pb.GenerateRequest())
        await page.locator(".tile").first.click()
        await visit.press("Variations")
        await visit.press("Draw variations")
        await visit.pictures(4)
        await same_from_programs(visit, tmp_path, pb.VaryRequest())
        await page.locator(".tile").nth(0).drag_to(page.locator(".tile").nth(1))
        await visit.press("Mix")
        await visit.pictures(2)
        await same_from_programs(visit, tmp_path, pb.MixRequest())
        await page.locator(".tile").nth(0).drag_to(page.locator(".tile").nth(1))
        await visit.press("Draw the way")
        await visit.pictures(5)
        await same_from_programs(visit, tmp_path, pb.InterpolateRequest())
        await page.locator(".tile").first.click()
        await visit.press("Edit")
        await visit.press("Invert")
        await page.fill("#canvas-prompt", "an owl")
        await visit.press("Paint")
        await page.get_by_text("Compare the results").wait_for()
        await page.locator("nav").get_by_text("Create").click()
        await same_from_programs(visit, tmp_path, pb.InpaintRequest())


async def same_from_programs(visit: Visit, folder: Path, message: Message) -> None:
    """Run the newest drawing's snippets, in a folder with its pictures."""
    page = visit.page
    stages = visit.api.stages
    count = await page.locator(".task >> nth=0").locator(".tile[role=button]").count()
    drawn = [picture.SerializeToString() for picture in stages.pictures[-count:]]
    await page.locator(".task").first.get_by_role("button", name="Request").click()
    for button in await page.locator("dialog").get_by_role("button", name="Download picture").all():
        async with page.expect_download() as started:
            await button.click()
        saved = await started.value
        await saved.save_as(folder / saved.suggested_filename)
    curl, python, grpc = await page.locator(".snippet pre").all_inner_texts()
    await page.keyboard.press("Escape")
    before = len(stages.pictures)
    await succeed("bash", "-c", curl.replace("curl ", "curl --fail-with-body ", 1), folder=folder)
    await succeed(sys.executable, "-c", python, folder=folder)
    again = [without_previews(picture) for picture in stages.pictures[before:]]
    wanted = sorted(without_previews(type(stages.pictures[0]).FromString(data)) for data in drawn)
    assert sorted(again[:count]) == sorted(again[count:]) == wanted
    document = await succeed(
        "bash", "-c", f"cat <<END\n{grpc.partition('<<END' + chr(10))[2]}", folder=folder
    )
    json_format.Parse(document, message)


def without_previews(picture: SampleDecoderRequest) -> bytes:
    """What was asked of the decoder, but for who asked, until when, and what to show on the way."""
    same = SampleDecoderRequest()
    same.CopyFrom(picture)
    same.ClearField("preview_interval")
    task = same.task
    same.task.CopyFrom(SamplingTask(seed=task.seed, steps=task.steps, guidance=task.guidance))
    return same.SerializeToString(deterministic=True)


async def succeed(*command: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-3000:]
    return out.decode()


async def test_a_deleted_picture_is_gone_everywhere(browser: Browser) -> None:
    async with visiting(browser) as visit:
        page = await visit.open()
        await visit.draw("a cat")
        await page.locator(".tile").first.click()
        await visit.press("Delete")
        await page.locator("dialog").last.get_by_role("button", name="Delete", exact=True).click()
        await page.locator(".tile").nth(3).wait_for(state="detached")
        await page.locator(".tile").first.click()
        await visit.press("☆ Favourite")
        await page.keyboard.press("Escape")
        await page.locator(".tile .star").wait_for()
        await expect(page.locator("[data-picture]:focus")).to_have_count(1)
        await page.reload()
        await visit.pictures(3)
        await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
        await page.keyboard.press("Tab")
        await page.locator(".skip").focus()
        await page.goto(f"{visit.url}/#history")
        await page.locator(".skip").press("Enter")
        assert await page.locator("#history").is_visible()


async def test_a_picture_of_ones_own(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png_of(noise(300, 200)))
    async with visiting(browser) as visit:
        page = await visit.open()
        async with page.expect_file_chooser() as choosing:
            await visit.press("choose a file")
        await (await choosing.value).set_files(tmp_path / "mine.png")
        await page.locator("dialog .large").wait_for()
        await visit.press("Variations")
        await visit.press("Draw variations")
        await visit.pictures(4)
        assert "mine.png" in await page.locator(".task h2").first.inner_text()
