"""Each flow over real gRPC against real Ray Serve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import drawn
from tests.stack.conftest import pixels, png_of, quick
from unclip.v1 import image_service_pb2 as pb

PROMPT = "a red apple on a wooden table"


def photo(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)


async def test_generate(images: Any) -> None:
    response = await images.Generate(pb.GenerateRequest(prompt=PROMPT, options=quick(n=3), request_id="mine"))
    assert response.request_id == "mine"
    assert [picture.seed for picture in response.pictures] == [7, 8, 9]
    for picture in response.pictures:
        assert pixels(picture.data).shape == (256, 256, 3) == (picture.height, picture.width, 3)
        assert picture.model_version
        stages = {t.stage for t in picture.stage_times}
        assert stages == {pb.STAGE_TEXT_ENCODER, pb.STAGE_PRIOR, pb.STAGE_DECODER, pb.STAGE_UPSAMPLER}
    assert len({drawn(picture.data) for picture in response.pictures}) == 3


async def test_a_pictures_own_seed_makes_it_again(images: Any) -> None:
    many = await images.Generate(pb.GenerateRequest(prompt=PROMPT, options=quick(n=2)))
    alone = await images.Generate(
        pb.GenerateRequest(prompt=PROMPT, options=quick(seed=many.pictures[1].seed))
    )
    assert drawn(alone.pictures[0].data) == drawn(many.pictures[1].data)


async def test_an_absent_seed_is_drawn_and_told(images: Any) -> None:
    request = pb.GenerateRequest(prompt=PROMPT, size=64, options=quick())
    request.options.ClearField("seed")
    first = (await images.Generate(request)).pictures[0]
    second = (await images.Generate(request)).pictures[0]
    assert first.seed != second.seed
    request.options.seed = first.seed
    assert drawn((await images.Generate(request)).pictures[0].data) == drawn(first.data)


async def test_the_small_size_skips_the_upsampler(images: Any) -> None:
    picture = (await images.Generate(pb.GenerateRequest(prompt=PROMPT, size=64, options=quick()))).pictures[0]
    assert pixels(picture.data).shape == (64, 64, 3)
    assert pb.STAGE_UPSAMPLER not in {t.stage for t in picture.stage_times}


async def test_the_largest_size_takes_both_upsamplers(images: Any) -> None:
    picture = (
        await images.Generate(pb.GenerateRequest(prompt=PROMPT, size=1024, options=quick(upsampler_steps=1)))
    ).pictures[0]
    assert pixels(picture.data).shape == (1024, 1024, 3)


@pytest.mark.parametrize("size", [(256, 256), (300, 200), (90, 140)])
async def test_inpainting_changes_nothing_outside_the_mask(images: Any, size: tuple[int, int]) -> None:
    source, mask = photo(*size), Image.new("L", size, 0)
    mask.paste(255, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    request = pb.InpaintRequest(
        picture=png_of(source), mask=png_of(mask), prompt="an owl in the snow", options=quick()
    )
    result = pixels((await images.Inpaint(request)).pictures[0].data)
    hole = np.asarray(mask) > 127
    np.testing.assert_array_equal(result[~hole], source[~hole])
    assert (result[hole] != source[hole]).mean() > 0.5


async def test_inpainting_takes_transparency_and_another_size(images: Any) -> None:
    picture = Image.fromarray(photo(128, 96)).convert("RGBA")
    picture.paste((0, 0, 0, 0), (10, 10, 60, 60))
    request = pb.InpaintRequest(picture=png_of(picture, "WEBP"), prompt="a star", size=64, options=quick())
    assert pixels((await images.Inpaint(request)).pictures[0].data).shape == (64, 85, 3)


async def test_outpainting_keeps_the_picture_and_paints_the_border(images: Any) -> None:
    source = photo(96, 64)
    margins = pb.Margins(left=40, right=64, bottom=8)
    request = pb.OutpaintRequest(
        picture=png_of(source), prompt="a fox in the snow", margins=margins, options=quick()
    )
    result = pixels((await images.Outpaint(request)).pictures[0].data)
    assert result.shape == (72, 200, 3)
    np.testing.assert_array_equal(result[:64, 40:136], source)
    assert result[:, :40].std() > 0
    assert result[:, 136:].std() > 0


async def test_varying_stays_nearer_the_more_similar(images: Any) -> None:
    source = np.asarray(Image.fromarray(photo(8, 8)).resize((256, 256), Image.Resampling.BICUBIC))
    distances = []
    for similarity in (0.0, 0.6, 0.97):
        request = pb.VaryRequest(
            picture=png_of(source), similarity=similarity, size=64, options=quick(decoder_steps=12)
        )
        result = pixels((await images.Vary(request)).pictures[0].data)
        small = np.asarray(Image.fromarray(source).resize((64, 64), Image.Resampling.BOX))
        distances.append(float(np.abs(result.astype(int) - small).mean()))
    assert distances[0] > distances[1] > distances[2]


async def test_ranking_captions(images: Any) -> None:
    snow = np.full((64, 64, 3), 240, np.uint8)
    request = pb.RankCaptionsRequest(
        picture=png_of(snow), captions=["a fox at night", "a star in the snow", "a house in the forest"]
    )
    ranked = (await images.RankCaptions(request)).captions
    assert sorted(r.index for r in ranked) == [0, 1, 2]
    assert [request.captions[r.index] for r in ranked] == [r.caption for r in ranked]
    assert sum(r.probability for r in ranked) == pytest.approx(1, abs=1e-5)
    assert [r.probability for r in ranked] == sorted((r.probability for r in ranked), reverse=True)


async def test_embeddings_have_unit_length_and_one_space(images: Any) -> None:
    text = (await images.EmbedText(pb.EmbedTextRequest(text=PROMPT))).embedding
    image = (await images.EmbedImage(pb.EmbedImageRequest(picture=png_of(photo(50, 70), "JPEG")))).embedding
    assert len(text) == len(image)
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(image) == pytest.approx(1, abs=1e-3)


async def test_the_model_says_what_it_is(images: Any) -> None:
    model = await images.GetModel(pb.GetModelRequest())
    assert list(model.sizes) == [64, 256, 1024]
    assert model.limits.max_n == 10
    assert model.defaults.decoder_steps > 0
    assert {licence.identifier for licence in model.licences} == {"MIT", "Apache-2.0"}
