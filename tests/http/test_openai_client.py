"""OpenAI's own client, unchanged: what dall-e-2's users call works again."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from services.wire.errors import Overloaded
from tests.fakes.stages import FakeStages, load_of
from tests.gateway.conftest import pixels, png_of, until
from tests.http.conftest import Api, serving_http


@pytest.fixture(scope="module")
async def api() -> Any:
    async with serving_http() as found:
        yield found


def noise(width: int = 64, height: int = 64, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3 if mode == "RGB" else 4)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


async def test_generate_and_fetch_by_url(api: Api) -> None:
    answer = await api.client.images.generate(model="dall-e-2", prompt="a fox", n=2, size="256x256")
    assert answer.data
    assert len(answer.data) == 2
    assert (answer.size, answer.output_format) == ("256x256", "png")
    url = str(answer.data[0].url)
    found = await api.http.get(url)
    assert found.headers["content-type"] == "image/png"
    assert pixels(found.content).shape == (256, 256, 3)
    assert (await api.http.get(url.replace("png", "jpeg"))).status_code == 404


async def test_generate_as_base64_in_other_formats_and_sizes(api: Api) -> None:
    answer = await api.client.images.generate(
        prompt="a fox",
        response_format="b64_json",
        size="512x512",
        output_format="webp",
        output_compression=80,
        user="somebody",
        extra_body={"seed": 7, "steps": 3, "guidance": 2.0, "negative_prompt": "snow"},
    )
    assert answer.data
    data = base64.b64decode(str(answer.data[0].b64_json))
    assert data[8:12] == b"WEBP"
    assert pixels(data).shape == (512, 512, 3)
    assert answer.data[0].model_extra == {"seed": 7}
    assert api.stages.tasks[-1].steps == 3


async def test_edit_with_a_mask_and_with_the_pictures_own_alpha(api: Api) -> None:
    mask = np.full((64, 64, 4), 255, np.uint8)
    mask[16:48, 16:48, 3] = 0
    picture = noise()
    answer = await api.client.images.edit(
        image=png_of(picture), mask=png_of(mask), prompt="a fox", response_format="b64_json"
    )
    assert answer.data
    result = pixels(base64.b64decode(str(answer.data[0].b64_json)))
    assert (result[:16] == np.asarray(picture)[:16]).all()
    assert (result[20:44, 20:44] != np.asarray(picture)[20:44, 20:44]).any()

    own = np.dstack([np.asarray(picture), mask[..., 3]])
    again = await api.client.images.edit(
        image=[("picture.png", png_of(own), "image/png")], prompt="a fox", response_format="b64_json"
    )
    assert again.data


async def test_edit_that_extends_a_picture(api: Api) -> None:
    answer = await api.client.images.edit(
        image=png_of(noise()),
        prompt="a meadow",
        response_format="b64_json",
        extra_body={"outpaint": {"left": 16, "bottom": 8}},
    )
    assert answer.data
    assert pixels(base64.b64decode(str(answer.data[0].b64_json))).shape == (72, 80, 3)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's word; here it is served
async def test_variation(api: Api) -> None:
    answer = await api.client.images.create_variation(
        image=png_of(noise(80, 64)), n=1, size="256x256", response_format="b64_json"
    )
    assert answer.data
    assert pixels(base64.b64decode(str(answer.data[0].b64_json))).shape == (256, 256, 3)


@pytest.mark.parametrize("partials", [0, 1, 3])
async def test_stream_with_partial_images(api: Api, partials: int) -> None:
    stream = await api.client.images.generate(
        prompt="a fox", stream=True, partial_images=partials, extra_body={"steps": 8}
    )
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * partials + ["image_generation.completed"]
    assert [e.partial_image_index for e in events[:-1]] == list(range(partials))  # type: ignore[union-attr]
    assert pixels(base64.b64decode(events[-1].b64_json)).shape == (256, 256, 3)
    assert events[-1].usage.total_tokens == 0  # type: ignore[union-attr]


async def test_stream_of_an_edit(api: Api) -> None:
    own = np.dstack([np.asarray(noise()), np.zeros((64, 64), np.uint8)])
    stream = await api.client.images.edit(
        image=png_of(own), prompt="a fox", stream=True, partial_images=1, extra_body={"steps": 4}
    )
    kinds = [event.type async for event in stream]
    assert kinds[0] == "image_edit.partial_image"
    assert kinds[-1] == "image_edit.completed"


async def test_models_and_embeddings(api: Api) -> None:
    names = [model.id async for model in api.client.models.list()]
    assert "dall-e-2" in names
    assert (await api.client.models.retrieve(names[0])).id == names[0]
    url = "data:image/png;base64," + base64.b64encode(png_of(noise())).decode()
    answer = await api.client.embeddings.create(model="dall-e-2", input=["a fox", url])
    assert [item.index for item in answer.data] == [0, 1]
    assert np.linalg.norm(answer.data[1].embedding) == pytest.approx(1.0, abs=1e-3)


async def test_each_error_is_the_clients_own(api: Api) -> None:
    client = api.client
    with pytest.raises(openai.BadRequestError) as bad:
        await client.images.generate(prompt=" ", n=99)
    assert bad.value.param in ("prompt", "n")
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id
    with pytest.raises(openai.BadRequestError) as unknown:
        await client.images.generate(prompt="a fox", extra_body={"colour": "red"})
    assert unknown.value.param == "colour"
    with pytest.raises(openai.BadRequestError) as broken:
        await client.images.edit(image=b"no picture", prompt="a fox")
    assert broken.value.param == "image"
    with pytest.raises(openai.NotFoundError) as other:
        await client.images.generate(model="dall-e-3", prompt="a fox")
    assert other.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")
    with pytest.raises(openai.BadRequestError) as narrow:
        await client.images.generate(prompt="a fox", size="256x512")
    assert narrow.value.param == "size"


async def test_a_full_service_is_asked_again_when_it_said() -> None:
    stages = FakeStages(load=load_of(backlog=2.0, seconds=0.1))
    async with serving_http(stages, look_interval=0.1) as api:
        with pytest.raises(openai.RateLimitError) as full:
            await api.client.with_options(timeout=2.0).images.generate(prompt="a fox")
        assert float(full.value.response.headers["retry-after-ms"]) > 100
        assert int(full.value.response.headers["retry-after"]) >= 1
        patient = api.client.with_options(timeout=2.0, max_retries=5)
        waiting = asyncio.ensure_future(patient.images.generate(prompt="a fox"))
        await asyncio.sleep(0.5)
        stages.load = load_of()
        assert (await waiting).data


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_a_stage_that_is_down_and_one_that_refuses() -> None:
    async with serving_http(FakeStages(refusal=Overloaded("full", 3))) as api:
        with pytest.raises(openai.RateLimitError):
            await api.client.images.generate(prompt="a fox")
        with pytest.raises(openai.APIError, match="full"):
            [event async for event in await api.client.images.generate(prompt="a fox", stream=True)]
        await until(
            lambda: api.gateway.models.places._requests == 0 and api.gateway.models.places._bytes == 0
        )
    async with serving_http(FakeStages(down={"image_encoder"})) as api:
        with pytest.raises(openai.InternalServerError) as down:
            await api.client.images.create_variation(image=png_of(noise()))
        assert down.value.status_code == 503


async def test_a_caller_that_goes_away_cancels_the_work() -> None:
    stages = FakeStages(step_seconds=0.05, default_steps=200)
    async with serving_http(stages) as api:
        for extra in ({}, {"stream": True}):
            call = asyncio.ensure_future(api.client.images.generate(prompt="a fox", extra_body=extra))
            await until(lambda: stages.sampling == 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            if extra:
                await api.client.close()
            await until(lambda: stages.sampling == 0)
        await until(
            lambda: api.gateway.models.places._requests == 0 and api.gateway.models.places._bytes == 0
        )
