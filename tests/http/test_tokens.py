"""API tokens over HTTP: OpenAI's client raises its own errors, and no tenant sees another's answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import openai
import pytest

from gateway.tokens import new_token, write_tokens
from tests.fakes.stages import FakeStages
from tests.http.conftest import serving_http

FOX = {"prompt": "a fox", "response_format": "url", "seed": 3}


async def test_openais_client_is_let_in_by_its_key_or_told_why_not(tmp_path: Path) -> None:
    shop, key = new_token("shop", "acme", ["generate"], None)
    write_tokens(tmp_path / "tokens.json", [shop])
    async with serving_http(tokens=str(tmp_path / "tokens.json")) as api:
        with pytest.raises(openai.AuthenticationError) as failure:
            await api.client.images.generate(prompt="a fox")
        assert failure.value.code == "invalid_api_key"
        assert failure.value.response.headers["www-authenticate"] == "Bearer"
        known = api.client.with_options(api_key=key)
        answer = await known.images.generate(prompt="a fox", response_format="url")
        assert answer.data
        assert answer.data[0].url
        assert (await api.http.get(answer.data[0].url)).status_code == 200, "its name is the secret"
        with pytest.raises(openai.PermissionDeniedError, match="no scope embed"):
            await known.embeddings.create(model="dall-e-2", input="a fox")
        assert (await api.http.get("/")).status_code == 200
        assert (await api.http.get("/readyz")).status_code == 200
        assert (await api.http.get("/v1/models")).status_code == 401


async def test_an_idempotency_key_is_its_tenants_own(tmp_path: Path) -> None:
    tokens = [new_token(name, name, ["generate"], None) for name in ("acme", "other")]
    write_tokens(tmp_path / "tokens.json", [token for token, _ in tokens])
    stages = FakeStages()
    async with serving_http(stages, tokens=str(tmp_path / "tokens.json")) as api:
        texts = []
        for _, key in (*tokens, tokens[0]):
            headers = {"authorization": f"Bearer {key}", "idempotency-key": "one"}
            answer = await api.http.post("/v1/images/generations", json=FOX, headers=headers)
            texts.append(answer.json()["data"][0]["url"])
        assert texts[0] == texts[2]
        assert texts[0] != texts[1]
        assert len(stages.pictures) == 2


async def test_an_idempotency_key_gives_nothing_to_those_who_may_not_ask(tmp_path: Path) -> None:
    drawing, key = new_token("drawing", "acme", ["generate"], None)
    reading, other = new_token("reading", "acme", ["embed"], None)
    write_tokens(tmp_path / "tokens.json", [drawing, reading])
    async with serving_http(tokens=str(tmp_path / "tokens.json")) as api:
        statuses = []
        for token in (other, key, other):
            headers = {"authorization": f"Bearer {token}", "idempotency-key": "one"}
            answer = await api.http.post("/v1/images/generations", json=FOX, headers=headers)
            statuses.append(answer.status_code)
        assert statuses == [403, 200, 403]


async def test_pictures_by_url_take_no_places() -> None:
    async with serving_http(max_requests=1) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.gateway.http.port)
        writer.write(b"POST /files/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        await writer.drain()
        assert b"405" in await reader.readline()
        assert (await api.http.post("/v1/images/generations", json=FOX)).status_code == 200
        writer.close()
