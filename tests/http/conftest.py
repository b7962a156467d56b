"""The Images API of a real gateway on loopback, in front of stages that do as they are told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai

from gateway.server import Gateway
from gateway.settings import Settings
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages


@dataclass(frozen=True)
class Api:
    """OpenAI's client, a plain one, the gateway and the stages behind it."""

    client: openai.AsyncOpenAI
    http: httpx.AsyncClient
    gateway: Gateway
    stages: FakeStages


@contextlib.asynccontextmanager
async def serving_http(stages: FakeStages | None = None, **settings: Any) -> AsyncIterator[Api]:
    """A gateway with these settings in front of these stages."""
    stages = stages or FakeStages()
    async with serve_fake_stages(stages) as address:
        chosen = {"port": 0, "http_port": 0, **addresses_of(address), **settings}
        gateway = Gateway(Settings(**chosen))
        await gateway.start()
        base = f"http://127.0.0.1:{gateway.http.port}"
        try:
            async with (
                httpx.AsyncClient(base_url=base, timeout=60) as http,
                openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
            ):
                yield Api(client, http, gateway, stages)
        finally:
            await gateway.stop(0)
