"""OpenAI's own client against the whole stack: what is drawn is what was asked for."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.stack.conftest import Addresses, pixels, png_of

QUICK = {"steps": 4, "seed": 7}


@pytest.fixture
def client(stack: Addresses) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.http}/v1", api_key="none", max_retries=0)


def file_of(answer: openai.types.ImagesResponse) -> bytes:
    assert answer.data
    return base64.b64decode(str(answer.data[0].b64_json))


def test_generate_by_url_edit_and_vary(client: openai.OpenAI) -> None:
    made = client.images.generate(
        model="dall-e-2", prompt="a lemon on a wooden table", size="256x256", extra_body=QUICK
    )
    assert made.data
    picture = httpx.get(str(made.data[0].url)).content
    assert pixels(picture).shape == (256, 256, 3)
    mask = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (64, 64, 192, 192))
    edited = client.images.edit(
        image=picture, mask=png_of(mask), prompt="a pear", response_format="b64_json", extra_body=QUICK
    )
    before, after = pixels(picture), pixels(file_of(edited))
    outside = np.asarray(mask)[..., 3] > 0
    assert (before[outside] == after[outside]).all()
    assert (before[~outside] != after[~outside]).any()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        varied = client.images.create_variation(image=picture, response_format="b64_json", size="256x256")
    assert pixels(file_of(varied)).shape == (256, 256, 3)


def test_partial_pictures_become_the_picture(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        prompt="a lemon on a wooden table", stream=True, partial_images=3, extra_body={**QUICK, "steps": 8}
    )
    files = [Image.open(io.BytesIO(base64.b64decode(event.b64_json))).convert("RGB") for event in stream]
    assert len(files) == 4
    last = np.asarray(files[-1].resize((64, 64), Image.Resampling.BOX), float)
    errors = [np.abs(np.asarray(partial.resize((64, 64)), float) - last).mean() for partial in files[:-1]]
    assert errors[0] > errors[-1]
    assert errors[-1] < 30


def test_captions_and_embeddings(client: openai.OpenAI, stack: Addresses) -> None:
    made = client.images.generate(
        prompt="a lemon on a wooden table", response_format="b64_json", extra_body=QUICK
    )
    picture = file_of(made)
    ranked = httpx.post(
        f"{stack.http}/v1/images/rank",
        files={"image": picture},
        data={"captions": ["a fox in the snow", "a lemon on a wooden table"]},
        timeout=60,
    ).json()["data"]
    assert ranked[0]["caption"] == "a lemon on a wooden table"
    texts = client.embeddings.create(model="dall-e-2", input=["a lemon", "a lemon on a table", "a bus"])
    rows = np.array([item.embedding for item in texts.data])
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
