"""Streams of the Images API: signs of life, and an end that is told whatever it is."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from gateway.http import streams
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import png_of, until
from tests.http.conftest import serving_http
from tests.http.test_openai_client import noise

GENERATIONS = "/v1/images/generations"
FOX = {"prompt": "a fox", "stream": True, "steps": 6}


async def test_a_stream_on_which_nothing_happens_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_SECONDS", 0.05)
    async with serving_http(FakeStages(step_seconds=0.1)) as api:
        text = (await api.http.post(GENERATIONS, json=FOX)).text
        assert text.count(": still at work\n\n") >= 3
        assert text.endswith("data: [DONE]\n\n")
        stream = await api.client.images.generate(prompt="a fox", stream=True, extra_body={"steps": 6})
        assert [event.type async for event in stream] == ["image_generation.completed"]


async def test_a_stream_that_takes_too_long_ends_with_an_error() -> None:
    async with serving_http(FakeStages(step_seconds=0.2), request_timeout=0.7) as api:
        answer = await api.http.post(GENERATIONS, json=FOX)
        assert answer.status_code == 200
        *_, last = answer.text.strip().split("\n\n")
        kind, data = last.split("\n")
        assert kind == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "timeout"
        stream = await api.client.images.generate(prompt="a fox", stream=True, extra_body={"steps": 6})
        with pytest.raises(openai.APIError, match=r"longer than 0\.7 s"):
            [event async for event in stream]
        await until(lambda: api.gateway.models.places._requests == 0)


def events_of(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


async def test_progress_is_told_to_those_who_ask_for_it() -> None:
    async with serving_http(FakeStages(last_word_read="fox")) as api:
        asked = {"prompt": "a fox " * 30, "stream": True, "steps": 3, "n": 2, "progress": True}
        events = events_of((await api.http.post(GENERATIONS, json=asked)).text)
        steps = [e for e in events if e["type"] == "image_generation.progress" and e["stage"] == "decoder"]
        assert [e["step"] for e in steps if e["picture_index"] == 1] == [1, 2, 3]
        assert {e["steps"] for e in steps} == {3}
        done = [e for e in events if e["type"] == "image_generation.completed"]
        assert sorted(e["picture_index"] for e in done) == [0, 1]
        assert all('after "fox"' in e["warnings"][0] for e in done)
        quiet = events_of((await api.http.post(GENERATIONS, json={**asked, "progress": False})).text)
        assert {e["type"] for e in quiet} == {"image_generation.completed"}


async def test_every_call_that_draws_can_be_streamed() -> None:
    async with serving_http() as api:
        files = {"image": png_of(noise())}
        text = base64.b64encode(files["image"]).decode()
        answers = [
            await api.http.post("/v1/images/variations", files=files, data={"stream": "true", "n": "2"}),
            await api.http.post(
                "/v1/images/mix",
                json={"sources": [{"image": text}, {"prompt": "a fox"}], "stream": True, "n": 2},
            ),
            await api.http.post(
                "/v1/images/interpolations",
                json={"start": {"image": text}, "end": {"prompt": "a fox"}, "frames": 2, "stream": True},
            ),
        ]
        for answer in answers:
            events = events_of(answer.text)
            assert [e["type"] for e in events] == ["image_generation.completed"] * 2, answer.text[:500]
