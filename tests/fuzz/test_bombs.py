"""Bombs are refused over both doors, in little memory, and another caller is answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator

import grpc
import httpx
import psutil
import pytest

from tests.fakes.stages import FakeStages
from tests.fuzz.bombs import BOUNDARY, DOCUMENTS, FORMS, PICTURES
from tests.gateway.conftest import FOX, Front, fronting
from unclip.v1 import image_service_pb2 as pb

MOST = 64 * 2**20  # more memory than a bomb itself takes
SLOW = 10.0


@pytest.fixture(scope="module")
async def front() -> AsyncIterator[Front]:
    async with fronting(FakeStages(), http_port=0) as found:
        yield found


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def sent(front: Front, **content: object) -> httpx.Response:
    """What the other door answers, while another caller draws."""
    base = f"http://127.0.0.1:{front.gateway.http.port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        answering = http.post(**content)  # type: ignore[arg-type]
        answer, other = await asyncio.gather(answering, front.images.Generate(FOX, timeout=SLOW))
        assert other.pictures
        return answer


@pytest.mark.parametrize("name", list(PICTURES))
async def test_a_picture_that_is_a_bomb(front: Front, name: str) -> None:
    data = PICTURES[name]()
    before = max(peak(), psutil.Process().memory_info().rss)
    started = time.monotonic()
    try:
        await front.images.Vary(pb.VaryRequest(picture=data), timeout=SLOW)
        code = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        code = error.code()
    # What is small when it is decoded is taken: the first picture, without its texts.
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK), code
    answer = await sent(front, url="/v1/images/variations", files={"image": ("a.png", data)})
    assert answer.status_code in (200, 400, 413)
    assert time.monotonic() - started < SLOW
    assert peak() - before < MOST + 8 * len(data)  # the test's own copies count here too


@pytest.mark.parametrize("name", list(DOCUMENTS))
async def test_a_document_that_is_a_bomb(front: Front, name: str) -> None:
    data = DOCUMENTS[name]()
    before = max(peak(), psutil.Process().memory_info().rss)
    headers = {"content-type": "application/json"}
    answer = await sent(front, url="/v1/images/generations", content=data, headers=headers)
    assert answer.status_code in (400, 413)
    assert peak() - before < MOST + 8 * len(data)


@pytest.mark.parametrize("name", list(FORMS))
async def test_a_form_that_is_a_bomb(front: Front, name: str) -> None:
    data = FORMS[name]()
    before = max(peak(), psutil.Process().memory_info().rss)
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = await sent(front, url="/v1/images/edits", content=data, headers=headers)
    assert answer.status_code in (400, 413)
    assert peak() - before < MOST + 8 * len(data)


async def test_a_flood_of_headers(front: Front) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.gateway.http.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\n" + b"x-filler: " + b"y" * 2**20 + b"\r\n")
    answer = b""
    with contextlib.suppress(ConnectionError):  # it may be cut before all of it is sent
        answer = await asyncio.wait_for(reader.read(), SLOW)
    assert not answer or b" 400 " in answer.split(b"\r\n")[0]
    writer.close()
    assert (await front.images.Generate(FOX, timeout=SLOW)).pictures
