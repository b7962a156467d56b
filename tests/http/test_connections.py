"""Connections that say nothing, or a letter at a time, keep nobody else out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.http import connections, server
from tests.fakes.stages import FakeStages
from tests.http.conftest import Api, serving_http

HEAD = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def few() -> AsyncIterator[Api]:
    """A service that keeps eight connections."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "LEAST_CONNECTIONS", 4)
        async with serving_http(FakeStages(), max_requests=1) as api:
            yield api


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(api: Api, count: int) -> AsyncIterator[list[Connection]]:
    """So many connections, one after another."""
    port = api.gateway.http.port
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What is answered to one request; empty if the connection is gone."""
    writer.write(HEAD)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    await reader.readexactly(2)
    return head.split(b"\r\n")[0]


async def test_the_longest_silent_go_and_who_asks_is_answered() -> None:
    async with few() as api, connected(api, 31) as opened:
        assert await asked(*opened[-1]) == b"HTTP/1.1 200 OK"
        assert await asyncio.wait_for(opened[0][0].read(), 5) == b""
        newest = asyncio.ensure_future(opened[-2][0].read())
        await asyncio.sleep(0.2)
        assert not newest.done()
        newest.cancel()


async def test_who_is_at_work_stays() -> None:
    async with few() as api:
        api.stages.delay = 1.0
        drawing = asyncio.ensure_future(api.http.post("/v1/images/generations", json={"prompt": "a fox"}))
        await asyncio.sleep(0.3)
        async with connected(api, 30):
            assert (await drawing).status_code == 200


async def test_a_head_that_comes_a_letter_at_a_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.5)
    async with few() as api:
        for answered in (False, True):  # also after a request that was
            async with connected(api, 1) as ((reader, writer),):
                if answered:
                    assert await asked(reader, writer) == b"HTTP/1.1 200 OK"
                started = asyncio.get_running_loop().time()
                with contextlib.suppress(ConnectionError):
                    for letter in HEAD[:-4] * 3:
                        writer.write(bytes([letter]))
                        await asyncio.sleep(0.1)
                        if reader.at_eof():
                            break
                assert asyncio.get_running_loop().time() - started < 2


async def test_a_connection_is_used_again_and_again() -> None:
    async with few() as api, connected(api, 1) as ((reader, writer),):
        for _ in range(5):
            assert await asked(reader, writer) == b"HTTP/1.1 200 OK"
        writer.write(HEAD * 3)  # one after another, without waiting
        for _ in range(3):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            await reader.readexactly(2)
