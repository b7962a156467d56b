"""Sends inputs to a real gateway, and says what it should not have done."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import httpx

from gateway.server import Gateway
from gateway.settings import Settings
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from tests.fuzz.inputs import Inputs

HANG_SECONDS = 10.0
# A path (but for those of our own URLs), an address or a stack of ours, in what a stranger is told.
LEAK = re.compile(
    r"(?<![\w/:.])/(?!v1/)[\w.-]+/[\w.-]|Traceback|File \"|site-packages|\.py\b|0x[0-9a-f]{8}"
    r"|127\.0\.0\.1:\d"
)
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
SERVICE = "/unclip.v1.ImageService/"


@dataclass
class Report:
    """What became of the inputs. bad: the seed of an input, and what is wrong with its answer."""

    answers: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, str]] = field(default_factory=list)

    def note(self, seed: int, answer: str, text: str, fault: bool, seconds: float) -> None:
        self.answers[answer] += 1
        if fault:
            self.bad.append((seed, f"{answer}: {text:.500}"))
        elif LEAK.search(text):
            self.bad.append((seed, f"{answer} tells too much: {text:.500}"))
        elif seconds > HANG_SECONDS:
            self.bad.append((seed, f"{answer} took {seconds:.0f} s"))


class Fuzzer:
    """A gateway in front of stages that do as they are told, and what is known of its answers."""

    def __init__(self, gateway: Gateway, channel: grpc.aio.Channel, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.report = Report()
        self._channel = channel
        self._http = http

    async def one(self, seed: int) -> None:
        """Send the input of this seed."""
        inputs = Inputs(seed)
        way = inputs.random.choice((self._grpc, self._grpc, self._json, self._form))
        started = time.monotonic()
        try:
            async with asyncio.timeout(2 * HANG_SECONDS):
                answer, text, fault = await way(inputs)
        except TimeoutError:
            answer, text, fault = "no answer", "", True
        self.report.note(seed, answer, text, fault, time.monotonic() - started)

    async def _grpc(self, inputs: Inputs) -> tuple[str, str, bool]:
        method, data = inputs.call()
        streams = method == "Stream"
        make: Any = self._channel.unary_stream if streams else self._channel.unary_unary
        call = make(f"{SERVICE}{method}", None, None)(data, timeout=HANG_SECONDS)
        try:
            if streams:
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            code = error.code()
            return f"grpc {code.name}", error.details() or "", code in FAULTS
        return "grpc OK", "", False

    async def _json(self, inputs: Inputs) -> tuple[str, str, bool]:
        path, body = inputs.json_body()
        headers = {"content-type": "application/json", "x-request-timeout": str(HANG_SECONDS)}
        return _read(await self._http.post(path, content=body, headers=headers))

    async def _form(self, inputs: Inputs) -> tuple[str, str, bool]:
        path, fields, files = inputs.form()
        headers = {"x-request-timeout": str(HANG_SECONDS)}
        named = {name: ("picture.png", data) for name, data in files.items()}
        return _read(await self._http.post(path, data=fields, files=named, headers=headers))


def _read(answer: httpx.Response) -> tuple[str, str, bool]:
    text = "" if answer.status_code == 200 else answer.text
    return f"http {answer.status_code}", text, answer.status_code in (500, 501, 502)


@contextlib.asynccontextmanager
async def fuzzing() -> AsyncIterator[Fuzzer]:
    """A gateway of its own on loopback."""
    async with serve_fake_stages(FakeStages()) as address:
        gateway = Gateway(Settings(port=0, http_port=0, **addresses_of(address)))
        await gateway.start()
        base = f"http://127.0.0.1:{gateway.http.port}"
        try:
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
                httpx.AsyncClient(base_url=base, timeout=30) as http,
            ):
                yield Fuzzer(gateway, channel, http)
        finally:
            await gateway.stop(0)


async def run(first: int, most: int, seconds: float, at_a_time: int = 16) -> Report:
    """Send the inputs of these seeds, until time runs out."""
    async with fuzzing() as fuzzer:
        seeds = iter(range(first, first + most))
        end = time.monotonic() + seconds

        async def worker() -> None:
            for seed in seeds:
                if time.monotonic() > end:
                    return
                await fuzzer.one(seed)

        await asyncio.gather(*(worker() for _ in range(at_a_time)))
        places = fuzzer.gateway.models.places
        for _ in range(100):
            if not places._requests and not places._bytes:
                break
            await asyncio.sleep(0.05)
        else:
            left = f"{places._requests} places and {places._bytes} bytes stay taken"
            fuzzer.report.bad.append((first, left))
        return fuzzer.report
