"""A mixed load on a gateway: ``python -m deploy.monitoring.load --seconds 60 --callers 4``.

Every caller sends one request after another: mostly for pictures, now and then a ranking, bad input, an
impossible deadline, or a request that it leaves half-way. In the end it prints how requests ended.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import click
import grpc
import grpc.aio
from PIL import Image
from rich.console import Console
from rich.table import Table

from gateway.environment import CLIENT_ADDRESS
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PROMPTS = (
    "a lemon on a wooden table",
    "a fox in the snow",
    "two balloons at the beach",
    "an owl in the forest at night",
)
MAKE_PICTURES = ("generate", "inpaint", "vary")
IMPOSSIBLE_SECONDS = 0.6  # for ten pictures
LEAVE_SECONDS = 0.3  # after which a caller leaves
Outcome = tuple[str, str]  # what was asked, and the gRPC code it ended with
console = Console(stderr=True)


def picture(side: int = 64) -> bytes:
    """A picture to work on, as PNG: a red square on white with a transparent hole."""
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.paste("red", (side // 8, side // 8, side // 2, side // 2))
    canvas.paste((0, 0, 0, 0), (side // 2, side // 2, side - 4, side - 4))
    stream = io.BytesIO()
    canvas.save(stream, "PNG")
    return stream.getvalue()


class Caller:
    """Sends requests to a gateway until told to stop."""

    def __init__(self, stub: Any, size: int, steps: int, seed: int) -> None:
        self._stub = stub
        self._size = size
        self._random = random.Random(seed)
        self._options = pb.SamplingOptions(decoder_steps=steps) if steps else pb.SamplingOptions()
        self._acts: dict[str, tuple[float, Callable[[], Awaitable[str | None]]]] = {
            "generate": (0.55, self._generate),
            "inpaint": (0.1, self._inpaint),
            "vary": (0.1, self._vary),
            "rank": (0.1, self._rank),
            "bad input": (0.05, self._bad_input),
            "impossible deadline": (0.05, self._impossible),
            "leaves": (0.05, self._leave),
        }

    async def run(self, until: float, outcomes: Counter[Outcome]) -> None:
        """Send requests until this time on the monotonic clock, and count how they end."""
        names = list(self._acts)
        weights = [weight for weight, _ in self._acts.values()]
        while time.monotonic() < until:
            act = self._random.choices(names, weights)[0]
            try:
                outcomes[act, await self._acts[act][1]() or "OK"] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[act, error.code().name] += 1

    @property
    def _prompt(self) -> str:
        return self._random.choice(PROMPTS)

    async def _generate(self) -> None:
        await self._stub.Generate(
            pb.GenerateRequest(prompt=self._prompt, size=self._size, options=self._options)
        )

    async def _inpaint(self) -> None:
        await self._stub.Inpaint(
            pb.InpaintRequest(picture=picture(), prompt=self._prompt, size=self._size, options=self._options)
        )

    async def _vary(self) -> None:
        await self._stub.Vary(pb.VaryRequest(picture=picture(), size=self._size, options=self._options))

    async def _rank(self) -> None:
        await self._stub.RankCaptions(pb.RankCaptionsRequest(picture=picture(), captions=PROMPTS))

    async def _bad_input(self) -> None:
        await self._stub.Generate(pb.GenerateRequest(prompt=""))

    async def _impossible(self) -> None:
        request = pb.GenerateRequest(prompt=self._prompt, options=pb.SamplingOptions(n=10))
        await self._stub.Generate(request, timeout=IMPOSSIBLE_SECONDS)

    async def _leave(self) -> str:
        call = self._stub.Generate(pb.GenerateRequest(prompt=self._prompt, options=self._options))
        await asyncio.sleep(LEAVE_SECONDS)
        call.cancel()
        return (await call.code()).name


async def load(address: str, *, seconds: float, callers: int, size: int, steps: int) -> Counter[Outcome]:
    """Put the load on the gateway. Returns how often each kind of request ended with each gRPC code."""
    outcomes: Counter[Outcome] = Counter()
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = image_service_pb2_grpc.ImageServiceStub(channel)
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(Caller(stub, size, steps, seed).run(until, outcomes) for seed in range(callers))
        )
    return outcomes


@click.command()
@click.option(
    "--address",
    envvar=CLIENT_ADDRESS,
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    help="The gateway's.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long.",
)
@click.option("--callers", type=click.IntRange(1), default=4, show_default=True, help="Requests at a time.")
@click.option(
    "--size",
    type=click.IntRange(0),
    default=0,
    help="Side of the pictures, one of the model's sizes; 0: the default.",
)
@click.option("--steps", type=click.IntRange(0), default=0, help="Of the decoder; 0: the model's default.")
def main(address: str, seconds: float, callers: int, size: int, steps: int) -> None:
    """Put a mixed load on a gateway and show what came of it."""
    started = time.monotonic()
    with console.status(f"{callers} callers for {seconds:.0f} s"):
        outcomes = asyncio.run(load(address, seconds=seconds, callers=callers, size=size, steps=steps))
    table = Table("request", "ended", "times")
    for (act, code), times in sorted(outcomes.items()):
        table.add_row(act, code, str(times))
    console.print(table)
    pictures = sum(outcomes[act, "OK"] for act in MAKE_PICTURES)
    console.print(f"{pictures / (time.monotonic() - started):.2f} pictures a second")
    if not pictures:
        sys.exit("error: not one picture was made")


if __name__ == "__main__":
    main()
