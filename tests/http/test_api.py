"""The Images API beside what OpenAI's client does: odd requests, limits, keys, and its document."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest
from PIL import Image

from gateway import replays
from gateway.http.store import KEEP_SECONDS, Memory, Objects, expired, new_name
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import png_of, until
from tests.http.conftest import Api, serving_http
from tests.http.test_openai_client import noise

GENERATIONS = "/v1/images/generations"
FOX = {"prompt": "a fox", "response_format": "b64_json", "seed": 3}


@pytest.fixture(scope="module")
async def api() -> Any:
    async with serving_http() as found:
        yield found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "a fox", "n": 0}, "n"),
        ({"prompt": "a fox", "n": 11}, "n"),
        ({"prompt": "a fox", "n": 2**64}, "n"),
        ({"prompt": "a fox", "size": "0x0"}, "size"),
        ({"prompt": "a fox", "size": "99999x99999"}, "size"),
        ({"prompt": "a fox", "size": "large"}, "size"),
        ({"prompt": "a fox", "seed": -1}, "seed"),
        ({"prompt": "a fox", "steps": 100000}, "steps"),
        ({"prompt": "a fox", "guidance": 1e30}, "guidance"),
        ({"prompt": "a fox", "output_format": "gif"}, "output_format"),
        ({"prompt": "a fox", "partial_images": 4}, "partial_images"),
        ({"prompt": "a fox", "nonsense": 1}, "nonsense"),
        ([], "body"),
    ],
)
async def test_what_is_not_allowed_is_named(api: Api, body: Any, param: str) -> None:
    before = len(api.stages.tasks)
    answer = await api.http.post(GENERATIONS, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert answer.headers["x-request-id"]
    assert len(api.stages.tasks) == before


async def test_odd_requests_are_answered_in_shape(api: Api) -> None:
    answers = [
        await api.http.post(GENERATIONS, content=b"{", headers={"content-type": "application/json"}),
        await api.http.post(GENERATIONS, content=b"\xff\xfe"),
        await api.http.post("/v1/images/edits", json={"prompt": "a fox"}),
        await api.http.post("/v1/images/edits", data={"prompt": "a fox", "image": "text"}),
        await api.http.post("/v1/images/edits", files={"image": b"x", "prompt": b"a fox"}),
        await api.http.post("/v1/images/variations", files=[("image[]", png_of(noise()))] * 2),
        await api.http.post(
            "/v1/images/edits", data={"prompt": "a fox", "outpaint": "{"}, files={"image": png_of(noise())}
        ),
        await api.http.post("/v1/embeddings", json={"input": []}),
        await api.http.post("/v1/embeddings", json={"input": "data:image/png;base64,!"}),
        await api.http.post("/v1/images/rank", files={"image": png_of(noise())}),
    ]
    assert [answer.status_code for answer in answers] == [400] * len(answers)
    assert all(answer.json()["error"]["param"] for answer in answers), [a.json() for a in answers]
    assert (await api.http.get("/v1/nothing")).status_code == 404
    assert (await api.http.get(GENERATIONS)).status_code == 405
    assert (await api.http.get("/v1/nothing")).json()["error"]["code"] == "not_found"
    assert (await api.http.get("/files/../../etc/passwd")).status_code == 404


async def test_a_request_that_is_too_large_is_not_read() -> None:
    async with serving_http(max_picture_bytes=1000) as api:
        large = {"prompt": "a" * (3 * 2**20)}
        assert (await api.http.post(GENERATIONS, json=large)).status_code == 413

        async def parts() -> Any:
            for _ in range(4):
                yield b" " * 2**20

        assert (await api.http.post(GENERATIONS, content=parts())).status_code == 413
        assert api.gateway.models.places._bytes == 0


async def test_captions_are_ranked(api: Api) -> None:
    answer = await api.http.post(
        "/v1/images/rank", files={"image": png_of(noise())}, data={"captions": ["a fox", "an owl"]}
    )
    assert answer.status_code == 200
    ranked = answer.json()["data"]
    assert sum(item["probability"] for item in ranked) == pytest.approx(1.0)
    assert {item["caption"] for item in ranked} == {"a fox", "an owl"}


async def test_an_embedding_as_base64_is_the_same(api: Api) -> None:
    plain = await api.http.post("/v1/embeddings", json={"input": "a fox"})
    coded = await api.http.post("/v1/embeddings", json={"input": "a fox", "encoding_format": "base64"})
    assert len(base64.b64decode(coded.json()["data"][0]["embedding"])) == 4 * len(
        plain.json()["data"][0]["embedding"]
    )


async def test_a_key_joins_the_first_request_or_repeats_its_answer() -> None:
    stages = FakeStages(step_seconds=0.1)
    async with serving_http(stages) as api:
        headers = {"idempotency-key": "one"}
        first = asyncio.ensure_future(api.http.post(GENERATIONS, json=FOX, headers=headers))
        await until(lambda: stages.sampling == 1)
        second = asyncio.ensure_future(api.http.post(GENERATIONS, json=FOX, headers=headers))
        await asyncio.sleep(0.05)
        first.cancel()  # the second still waits
        answer = await second
        assert answer.status_code == 200
        again = await api.http.post(GENERATIONS, json=FOX, headers=headers)
        assert again.content == answer.content
        assert len(stages.pictures) == 1
        other = await api.http.post(GENERATIONS, json={**FOX, "seed": 4}, headers=headers)
        assert (other.status_code, other.json()["error"]["param"]) == (400, "idempotency-key")


async def test_a_form_that_is_sent_again_is_the_same_request() -> None:
    """Its boundary is drawn anew each time."""
    stages = FakeStages()
    async with serving_http(stages) as api:
        headers = {"idempotency-key": "one"}
        answers = [
            await api.http.post(
                "/v1/images/variations",
                files={"image": ("a.png", png_of(Image.new("RGB", (8, 8))))},
                data={"n": n},
                headers=headers,
            )
            for n in ("1", "1", "2")
        ]
        assert answers[0].content == answers[1].content
        assert [answer.status_code for answer in answers] == [200, 200, 400]
        assert len(stages.pictures) == 1


async def test_a_caller_that_gave_up_and_asks_again_finds_its_work_going_on() -> None:
    stages = FakeStages(step_seconds=0.2)
    async with serving_http(stages) as api:
        headers = {"idempotency-key": "one"}
        first = asyncio.ensure_future(api.http.post(GENERATIONS, json=FOX, headers=headers))
        await until(lambda: stages.sampling == 1)
        first.cancel()
        await asyncio.sleep(0.1)
        assert (await api.http.post(GENERATIONS, json=FOX, headers=headers)).status_code == 200
        assert len(stages.pictures) == 1


async def test_a_key_whose_callers_have_all_left_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "GRACE_SECONDS", 0.2)
    stages = FakeStages(step_seconds=0.1, default_steps=100)
    async with serving_http(stages) as api:
        headers = {"idempotency-key": "one"}
        calls = [
            asyncio.ensure_future(api.http.post(GENERATIONS, json=FOX, headers=headers)) for _ in range(2)
        ]
        await until(lambda: stages.sampling == 1)
        for call in calls:
            call.cancel()
        await until(lambda: stages.sampling == 0)
        stages.step_seconds = 0
        assert (await api.http.post(GENERATIONS, json=FOX, headers=headers)).status_code == 200


async def test_what_a_full_memory_has_no_room_for_goes_first() -> None:
    store = Memory(100)
    names = [new_name("png") for _ in range(3)]
    for name in names:
        await store.put(name, bytes(40))
    assert await store.get(names[0]) is None
    assert await store.get(names[2]) == bytes(40)


def test_names_say_when_they_expire() -> None:
    name = new_name("webp")
    assert not expired(name)
    at, rest = name.split("-", 1)
    assert expired(f"{int(at) - int(KEEP_SECONDS) - 1}-{rest}")


async def test_pictures_in_a_folder(tmp_path: Any) -> None:
    async with serving_http(picture_store=f"file://{tmp_path}/pictures") as api:
        answer = await api.client.images.generate(prompt="a fox")
        assert answer.data
        assert (await api.http.get(str(answer.data[0].url))).status_code == 200
        assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert await Objects(f"file://{tmp_path}/pictures").get("nothing") is None


async def test_the_document_is_served_and_names_every_path(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    assert {GENERATIONS, "/v1/images/edits", "/v1/images/variations", "/v1/embeddings"} <= set(
        document["paths"]
    )
    assert (await api.http.get("/docs")).status_code == 200
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert all("422" not in op["responses"] for op in operations)


async def test_its_page_needs_nothing_from_elsewhere(api: Api) -> None:
    page = (await api.http.get("/docs")).text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(source.startswith("/") for source in sources), sources
    for source in sources:
        assert (await api.http.get(source)).status_code == 200


async def test_probes_say_whether_it_lives_and_is_ready() -> None:
    async with serving_http(FakeStages(down={"text_encoder", "image_encoder", "prior", "decoder"})) as api:
        assert (await api.http.get("/livez")).status_code == 200
        assert (await api.http.get("/readyz")).status_code == 503
        api.stages.down.clear()
        await until_ready(api)


async def until_ready(api: Api) -> None:
    while (await api.http.get("/readyz")).status_code != 200:
        await asyncio.sleep(0.05)


async def test_models_tell_sizes_defaults_and_limits(api: Api) -> None:
    for model in (await api.http.get("/v1/models")).json()["data"]:
        facts = model["unclip"]
        assert facts["sizes"] == [64, 256, 1024]
        assert (facts["default_size"], facts["max_n"], facts["default_steps"]) == (256, 10, 2)
        alone = await api.http.get(f"/v1/models/{model['id']}")
        assert alone.json() == model


async def test_pictures_and_prompts_are_mixed_and_interpolated(api: Api) -> None:
    picture = {"image": base64.b64encode(png_of(noise())).decode()}
    mixed = await api.http.post(
        "/v1/images/mix",
        json={"sources": [picture, {"prompt": "in the snow"}], "weights": [0.6, 0.4], "size": "256x256"},
    )
    assert mixed.status_code == 200, mixed.text
    way = await api.http.post(
        "/v1/images/interpolations", json={"start": picture, "end": {"prompt": "a cat"}, "frames": 3}
    )
    assert len(way.json()["data"]) == 3
    for body, param in (
        ({"sources": [picture]}, "sources"),
        ({"sources": [picture, {}]}, "sources[1]"),
        ({"sources": [picture, {"image": "!"}]}, "sources[1].image"),
        ({"sources": [picture, {"image": base64.b64encode(b"no").decode()}]}, "sources[1].image"),
    ):
        answer = await api.http.post("/v1/images/mix", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
