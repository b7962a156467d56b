"""Every flow through a real gateway: what goes to the stages, and what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import numpy as np
import pytest
from PIL import Image

from gateway.flows import paint
from services.editing.frames import Frame, plan
from services.editing.pictures import Mask
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import Front, fronting, pixels, png_of
from tests.pictures import drawn
from unclip.internal.v1 import sampling_pb2
from unclip.v1 import image_service_pb2 as pb

LONG = "a fox and " * 20


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(1, 250, (height, width, channels), dtype=np.uint8)


def mask_of(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (width // 4, height // 4, width // 2, height // 2))
    return mask


async def test_generate_answers_pictures_with_what_it_takes_to_make_them_again(front: Front) -> None:
    options = pb.SamplingOptions(n=3, seed=7, prior_candidates=2, decoder_steps=3)
    response = await front.images.Generate(
        pb.GenerateRequest(prompt="a fox", options=options, request_id="mine")
    )
    assert response.request_id == "mine"
    assert [p.seed for p in response.pictures] == [7, 8, 9]
    for picture in response.pictures:
        assert pixels(picture.data).shape == (256, 256, 3) == (picture.height, picture.width, 3)
        assert picture.model_version == "0"
        assert picture.format == pb.OUTPUT_FORMAT_PNG
        assert {t.stage for t in picture.stage_times} == {
            *(pb.STAGE_TEXT_ENCODER, pb.STAGE_PRIOR, pb.STAGE_DECODER, pb.STAGE_UPSAMPLER)
        }
    effective = response.pictures[1].options
    assert (effective.n, effective.seed, effective.prior_candidates, effective.decoder_steps) == (1, 8, 2, 3)
    assert (effective.prior_steps, effective.decoder_guidance, effective.upsampler_steps) == (2, 2, 1)
    again = await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=effective))
    assert drawn(again.pictures[0].data) == drawn(response.pictures[1].data)


@pytest.mark.parametrize(
    ("size", "drawn"), [(0, 256), (1, 64), (64, 64), (65, 256), (300, 1024), (1024, 1024)]
)
async def test_any_size_is_drawn_at_the_next_native_one(front: Front, size: int, drawn: int) -> None:
    response = await front.images.Generate(pb.GenerateRequest(prompt="a fox", size=size))
    assert front.stages.pictures[-1].size == drawn
    assert pixels(response.pictures[0].data).shape == (size or 256, size or 256, 3)


async def test_the_default_size_is_told(front: Front) -> None:
    model = await front.images.GetModel(pb.GetModelRequest())
    assert model.default_size == 256
    assert list(model.sizes) == [64, 256, 1024]
    assert model.limits.max_request_bytes == 33 * 2**20
    assert model.limits.max_reduced_pixels == 64 * 10**6


@pytest.mark.parametrize(
    ("form", "name"),
    [(pb.OUTPUT_FORMAT_PNG, "PNG"), (pb.OUTPUT_FORMAT_WEBP, "WEBP"), (pb.OUTPUT_FORMAT_JPEG, "JPEG")],
)
async def test_pictures_come_in_the_format_that_was_asked_for(front: Front, form: Any, name: str) -> None:
    output = pb.Output(format=form, quality=80)
    picture = (await front.images.Generate(pb.GenerateRequest(prompt="a fox", output=output))).pictures[0]
    assert picture.format == form
    assert picture.data[:12].find({"PNG": b"PNG", "WEBP": b"WEBP", "JPEG": b"\xff\xd8"}[name]) >= 0


async def test_a_negative_prompt_takes_the_place_of_the_empty_text(front: Front) -> None:
    options = pb.SamplingOptions(negative_prompt="rain at sea")
    await front.images.Generate(pb.GenerateRequest(prompt="a boat at sea", options=options))
    assert front.stages.texts[-2:] == ["a boat at sea", "rain at sea"]


async def test_a_prompt_that_is_cut_is_a_warning() -> None:
    async with fronting(FakeStages(last_word_read="fox")) as front:
        embedded = await front.images.EmbedText(pb.EmbedTextRequest(text=LONG))
        assert [warning.field for warning in embedded.warnings] == ["text"]
        picture = png_of(noise(8, 8))
        ranked = await front.images.RankCaptions(
            pb.RankCaptionsRequest(picture=picture, captions=["a fox", LONG])
        )
        assert [warning.field for warning in ranked.warnings] == ["captions[1]"]
        response = await front.images.Generate(pb.GenerateRequest(prompt=LONG))
        assert [(w.code, w.field) for w in response.warnings] == [(pb.WARNING_CODE_TEXT_CUT, "prompt")]
        assert '"fox"' in response.warnings[0].message
        stream = front.images.Stream(pb.StreamRequest(generate=pb.GenerateRequest(prompt=LONG)))
        assert [r.warning.field for r in [r async for r in stream] if r.HasField("warning")] == ["prompt"]


async def test_a_negative_prompt_without_guidance_is_a_warning(front: Front) -> None:
    options = pb.SamplingOptions(negative_prompt="snow", prior_guidance=1, decoder_guidance=1)
    response = await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=options))
    assert [(w.code, w.field) for w in response.warnings] == [
        (pb.WARNING_CODE_NO_EFFECT, "options.negative_prompt")
    ]
    options.decoder_guidance = 3
    assert not (await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=options))).warnings


@pytest.mark.parametrize("size", [(256, 256), (300, 200), (90, 140)])
async def test_inpainting_changes_nothing_outside_the_mask(front: Front, size: tuple[int, int]) -> None:
    source = noise(size[1], size[0])
    mask = mask_of(*size)
    request = pb.InpaintRequest(picture=png_of(source), mask=png_of(mask), prompt="an owl")
    result = pixels((await front.images.Inpaint(request)).pictures[0].data)
    hole = np.asarray(mask) > 127
    np.testing.assert_array_equal(result[~hole], source[~hole])
    assert (result[hole] != source[hole]).mean() > 0.9


async def test_inpainting_keeps_the_alpha_outside_the_mask(front: Front) -> None:
    source = noise(90, 120, 4)
    source[:20, :, 3] = 0
    mask = mask_of(120, 90)
    request = pb.InpaintRequest(picture=png_of(source), mask=png_of(mask), prompt="an owl")
    result = pixels((await front.images.Inpaint(request)).pictures[0].data, "RGBA")
    hole = np.asarray(mask) > 127
    np.testing.assert_array_equal(result[~hole], source[~hole])
    assert (result[hole][:, 3] == 255).all()


async def test_outpainting_keeps_the_picture_and_its_alpha(front: Front) -> None:
    source = noise(64, 96, 4)
    margins = pb.Margins(left=40, right=64, bottom=8)
    request = pb.OutpaintRequest(picture=png_of(source), prompt="a fox", margins=margins)
    result = pixels((await front.images.Outpaint(request)).pictures[0].data, "RGBA")
    assert result.shape == (72, 200, 4)
    np.testing.assert_array_equal(result[:64, 40:136], source)
    assert (result[64:, :, 3] == 255).all()


async def test_frames_of_a_canvas_have_seeds_of_their_own(front: Front) -> None:
    front.stages.pictures.clear()
    request = pb.OutpaintRequest(
        picture=png_of(noise(64, 64)),
        prompt="a fox",
        margins=pb.Margins(right=128),
        options=pb.SamplingOptions(seed=5),
    )
    await front.images.Outpaint(request)
    seeds = [p.task.seed for p in front.stages.pictures]
    assert seeds[0] == 5
    assert len(set(seeds)) == len(seeds) > 1


async def test_the_plan_of_frames_is_made_once_for_all_pictures(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []

    def counted(hole: Mask, max_frames: int) -> list[Frame]:
        plans.append(hole)
        return plan(hole, max_frames)

    monkeypatch.setattr(paint, "plan", counted)
    margins = pb.Margins(left=64)
    request = pb.OutpaintRequest(
        picture=png_of(noise(64, 64)), prompt="a fox", margins=margins, options=pb.SamplingOptions(n=4)
    )
    assert len((await front.images.Outpaint(request)).pictures) == 4
    assert len(plans) == 1


async def test_varying_tells_its_similarity(front: Front) -> None:
    picture = png_of(noise(100, 80))
    told = (await front.images.Vary(pb.VaryRequest(picture=picture))).pictures[0]
    assert told.similarity == pytest.approx(0.3)
    assert told.options.HasField("decoder_steps")
    assert not told.options.HasField("prior_steps"), "it asks no prior"
    assert front.stages.pictures[-1].HasField("start")
    await front.images.Vary(pb.VaryRequest(picture=picture, similarity=0))
    assert not front.stages.pictures[-1].HasField("start")


async def test_a_large_jpeg_may_be_varied_and_embedded_but_not_painted() -> None:
    photo = png_of(Image.new("RGB", (400, 300), "red"), "JPEG")
    async with fronting(FakeStages(), max_picture_pixels=256 * 256) as front:
        assert (await front.images.Vary(pb.VaryRequest(picture=photo))).pictures
        assert (await front.images.EmbedImage(pb.EmbedImageRequest(picture=photo))).embedding
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await front.images.Outpaint(
                pb.OutpaintRequest(picture=photo, prompt="a fox", margins=pb.Margins(left=1))
            )
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_ranking_and_embedding(front: Front) -> None:
    request = pb.RankCaptionsRequest(picture=png_of(noise(9, 9)), captions=["a fox", "an owl"])
    ranked = (await front.images.RankCaptions(request)).captions
    assert [r.index for r in ranked] == [0, 1]
    assert sum(r.probability for r in ranked) == pytest.approx(1)
    text = (await front.images.EmbedText(pb.EmbedTextRequest(text=LONG))).embedding
    assert np.linalg.norm(text) == pytest.approx(1)


async def test_a_stream_tells_progress_and_previews_and_ends_in_pictures(front: Front) -> None:
    options = pb.SamplingOptions(n=2, seed=3, decoder_steps=6, preview_interval=2)
    request = pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox", options=options))
    responses = [r async for r in front.images.Stream(request)]
    for index in (0, 1):
        mine = [r for r in responses if r.picture_index == index]
        steps = [(r.progress.stage, r.progress.step) for r in mine if r.HasField("progress")]
        expected = [
            (pb.STAGE_PRIOR, 2),
            *((pb.STAGE_DECODER, i) for i in range(1, 7)),
            (pb.STAGE_UPSAMPLER, 1),
        ]
        assert steps == expected
        assert [pixels(r.preview.data)[0, 0, 0] for r in mine if r.HasField("preview")] == [2, 4]
        assert mine[-1].picture.seed == 3 + index
    unary = await front.images.Generate(request.generate)
    pictures = {r.picture_index: drawn(r.picture.data) for r in responses if r.HasField("picture")}
    assert [pictures[0], pictures[1]] == [drawn(p.data) for p in unary.pictures]


async def test_priority_and_deadline_go_with_every_call(front: Front) -> None:
    front.stages.tasks.clear()
    options = pb.SamplingOptions(priority=pb.PRIORITY_BATCH)
    await front.images.Generate(pb.GenerateRequest(prompt="a fox", options=options), timeout=30)
    assert {task.priority for task in front.stages.tasks} == {sampling_pb2.PRIORITY_BATCH}
    assert all(0 < task.time_left.ToSeconds() <= 30 for task in front.stages.tasks)
    front.stages.tasks.clear()
    await front.images.Generate(pb.GenerateRequest(prompt="a fox"))
    assert not any(task.HasField("time_left") for task in front.stages.tasks)


async def test_a_limit_below_the_models_default_blames_nobody() -> None:
    async with fronting(FakeStages(default_steps=9), max_steps=4, max_guidance=1.5) as front:
        picture = (await front.images.Generate(pb.GenerateRequest(prompt="a fox"))).pictures[0]
        assert (picture.options.decoder_steps, picture.options.decoder_guidance) == (4, 1.5)
        defaults = (await front.images.GetModel(pb.GetModelRequest())).defaults
        assert (defaults.decoder_steps, defaults.decoder_guidance) == (4, 1.5)


async def test_texts_are_cached_by_the_encoders_own_version() -> None:
    stages = FakeStages()
    async with fronting(stages, look_interval=0.05) as front:
        request = pb.GenerateRequest(prompt="a fox")
        await front.images.Generate(request)
        await front.images.Generate(request)
        assert stages.texts.count("a fox") == 1
        stages.versions["decoder"] = "1"
        await asyncio.sleep(0.2)
        await front.images.Generate(request)
        assert stages.texts.count("a fox") == 1
        stages.versions["text_encoder"] = "1"
        await asyncio.sleep(0.2)
        await front.images.Generate(request)
        assert stages.texts.count("a fox") == 2


async def test_pictures_are_cached_by_what_they_show_and_the_encoders_own_version() -> None:
    stages = FakeStages()
    async with fronting(stages, look_interval=0.05) as front:
        shown = noise(8, 12)
        for picture in (png_of(shown), png_of(shown, "WEBP", lossless=True), png_of(shown)):
            await front.images.Vary(pb.VaryRequest(picture=picture))
        assert stages.encoded_pictures == 1
        await front.images.Vary(pb.VaryRequest(picture=png_of(shown.reshape(12, 8, -1))))
        assert stages.encoded_pictures == 2
        stages.versions["image_encoder"] = "1"
        await asyncio.sleep(0.2)
        await front.images.Vary(pb.VaryRequest(picture=png_of(shown)))
        assert stages.encoded_pictures == 3


@pytest.mark.parametrize("prompt", ["\0", "🦊🏖️", "x" * 1000, "<end_of_text>", "ａ ｆｏｘ", "'; DROP TABLE"])
async def test_odd_prompts_and_ids_are_no_matter(front: Front, prompt: str) -> None:
    request = pb.GenerateRequest(prompt=prompt, size=64, request_id="ｆｏｘ 🦊")
    response = await front.images.Generate(request)
    assert response.request_id == "ｆｏｘ 🦊"
    assert front.stages.texts.count(prompt) >= 1
