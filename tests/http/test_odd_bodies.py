"""Bodies that would cost much, or break what reads them: all are answered as bad requests, at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError

from gateway.http.store import Objects
from gateway.settings import SHIPPED
from services.wire.errors import StageUnavailable
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import png_of, until
from tests.http.conftest import Api, serving_http
from tests.http.test_openai_client import noise

EDITS = "/v1/images/edits"
GENERATIONS = "/v1/images/generations"
FORM = "multipart/form-data; boundary=a"


@pytest.fixture(scope="module")
async def api() -> Any:
    async with serving_http() as found:
        yield found


def part(name: str, value: bytes = b"x") -> bytes:
    return b'--a\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (f"{FORM}; charset=punycode", part("prompt", b"a" * 2**20) + b"--a--\r\n"),
        (f"{FORM}; charset=undefined", part("prompt") + b"--a--\r\n"),
        ("application/x-www-form-urlencoded", b"&" * 2**22),
        ("multipart/form-data", b""),
        (FORM, b""),
        (FORM, b"\r\n--ax" * 2**16),
        (FORM, part("prompt", b"a" * 2**17) + b"--a--\r\n"),
        (FORM, b"".join(part(f"f{i}") for i in range(1000)) + b"--a--\r\n"),
        (FORM, part("prompt") + part("prompt[a]") + b"--a--\r\n"),
        (FORM, part("outpaint") + part("outpaint[left]") + b"--a--\r\n"),
        (FORM, part("prompt", b"\xff\xfe") + b"--a--\r\n"),
        ("text/plain", b"prompt"),
    ],
)
async def test_odd_forms(api: Api, kind: str, body: bytes) -> None:
    async with asyncio.timeout(10):
        answer = await api.http.post(EDITS, content=body, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({str(i): 0 for i in range(20_000)}).encode(),
        json.dumps({"prompt": "a fox", "n": [[[[]]]] * 300}).encode(),
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a fox", "negative_prompt": "\\udfff"}',
        b'{"\\ud800": 1}',
        b"[" * 100_000,
        b'{"prompt": NaN}',
        b"\xef\xbb\xbf{}",
        b"7",
    ],
)
async def test_odd_documents(api: Api, body: bytes) -> None:
    answer = await api.http.post(GENERATIONS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert len(answer.content) < 4096


async def test_captions_may_be_numbered(api: Api) -> None:
    files = {"image": png_of(noise())}
    for keys in (("captions", "captions"), ("captions[]", "captions[]"), ("captions[0]", "captions[1]")):
        fields: dict[str, Any] = {}
        for key, text in zip(keys, ("a fox", "an owl"), strict=True):
            fields.setdefault(key, []).append(text)
        answer = await api.http.post("/v1/images/rank", files=files, data=fields)
        assert {c["caption"] for c in answer.json()["data"]} == {"a fox", "an owl"}


async def test_a_fault_is_told_in_shape_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_http() as api:
        images = api.gateway.models._images[SHIPPED]

        async def broken() -> str:
            raise RuntimeError("the secret address is 10.0.0.1")

        monkeypatch.setattr(images, "facts", broken)
        answer = await api.http.get("/v1/models")
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert "10.0.0.1" not in answer.text
        assert answer.headers["x-should-retry"] == "false"
        await until(lambda: api.gateway.models.places._requests == 0)


async def test_a_deadline_that_is_too_near_is_not_tried_again() -> None:
    async with serving_http(FakeStages(delay=30)) as api:
        answer = await api.http.post(
            GENERATIONS, json={"prompt": "a fox"}, headers={"x-request-timeout": "0.3"}
        )
        assert answer.status_code == 504
        assert answer.headers["x-should-retry"] == "false"


async def test_what_does_not_need_the_prior_does_not_miss_it() -> None:
    async with serving_http(FakeStages(down={"prior"})) as api:
        assert (await api.http.get("/v1/models")).status_code == 200
        assert (await api.http.post("/v1/embeddings", json={"input": "a fox"})).status_code == 200
        varied = await api.http.post("/v1/images/variations", files={"image": png_of(noise())})
        assert varied.status_code == 200
        assert (await api.http.post(GENERATIONS, json={"prompt": "a fox"})).status_code == 503


async def test_an_edits_size_has_to_fit_its_picture(api: Api) -> None:
    own = noise(64, 64, "RGBA")
    own.putalpha(0)
    files = {"image": png_of(own)}
    answer = await api.http.post(EDITS, files=files, data={"prompt": "a fox", "size": "256x128"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")
    assert "128x128" in answer.json()["error"]["message"]


async def test_a_store_that_fails_is_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Objects(f"file://{tmp_path}/pictures")

    async def failing(*_: object) -> None:
        raise BaseError("403 from 10.0.0.1")

    monkeypatch.setattr(obstore, "put_async", failing)
    monkeypatch.setattr(obstore, "get_async", failing)
    for work in (store.put("x", b""), store.get("x")):
        with pytest.raises(StageUnavailable) as failure:
            await work
        assert "10.0.0.1" not in str(failure.value)
