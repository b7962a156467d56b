"""``python -m tests.bench.chaos``: kills parts of the local stack under load, and counts what callers lose.

Every caller asks for pictures with known seeds, one after another, with a deadline of 120 s. A picture that
comes back must be the one that was drawn before anything was killed, byte for byte. The counts go to the
terminal and to out/bench/chaos.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import grpc
import grpc.aio
import psutil
from PIL import Image
from rich.console import Console

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.environment import load_settings
from gateway.settings import Settings
from tests.bench.results import keep
from tests.pictures import drawn
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

CALLERS = 4
SEEDS = 8
DEADLINE = 120.0
BACK_SECONDS = 120.0
GATEWAY_BACK_SECONDS = 30.0  # from its restart to the next picture
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 1000))
PARTS = {
    "text_encoder": "ray::ServeReplica:text_encoder",
    "prior": "ray::ServeReplica:prior",
    "decoder": "ray::ServeReplica:decoder",
    "image_encoder": "ray::ServeReplica:image_encoder",
    "proxy": "ray::ProxyActor",
    "controller": "ray::ServeController",
}
console = Console(stderr=True)


def request(seed: int) -> pb.VaryRequest | pb.GenerateRequest:
    """Every second one needs the image encoder too."""
    options = pb.SamplingOptions(seed=seed)
    if seed % 2:
        return pb.GenerateRequest(prompt=f"a fox and {seed} balloons in the snow", options=options)
    return pb.VaryRequest(picture=_square(), options=options)


def _square() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "PNG")
    return stream.getvalue()


@dataclass
class Load:
    """Callers, and what became of their requests."""

    images: Any
    drawn: dict[int, bytes] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    different: int = 0
    last: float = 0.0  # when a picture was last answered
    seconds: float | None = None  # what was done to the stack took
    stopped: bool = False

    async def draw(self, seed: int) -> bytes:
        """The picture with this seed."""
        asked = request(seed)
        method = self.images.Generate if isinstance(asked, pb.GenerateRequest) else self.images.Vary
        response = await method(asked, timeout=DEADLINE)
        return drawn(response.pictures[0].data)

    async def run(self) -> None:
        """Draw until stopped."""
        dice = random.Random(1)

        async def caller() -> None:
            while not self.stopped:
                seed = dice.randrange(SEEDS)
                try:
                    picture = await self.draw(seed)
                except grpc.aio.AioRpcError as error:
                    self.outcomes[error.code().name] += 1
                    console.print(f"lost: {error.code().name} {error.details()}", highlight=False)
                    await asyncio.sleep(0.5)
                    continue
                self.outcomes["OK"] += 1
                self.last = time.monotonic()
                self.different += picture != self.drawn[seed]

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


def processes(title: str) -> list[psutil.Process]:
    """Those of the stack with this title, newest last."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline() and process.cmdline()[0].startswith(title):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


async def replaced(title: str, killed: psutil.Process) -> None:
    """Wait until another process has taken a killed one's place."""
    until = time.monotonic() + BACK_SECONDS
    while not [p for p in processes(title) if p.pid != killed.pid]:
        if time.monotonic() > until:
            raise TimeoutError(f"{title} did not come back within {BACK_SECONDS:.0f} s")
        await asyncio.sleep(0.5)


async def answered(load: Load, since: float) -> float:
    """Seconds from then until a picture was answered."""
    while load.last <= since:
        if time.monotonic() - since > BACK_SECONDS:
            raise TimeoutError(f"nobody was answered for {BACK_SECONDS:.0f} s")
        await asyncio.sleep(0.2)
    return load.last - since


async def strike(load: Load, part: str, number: int) -> None:
    """Kill (or, with SIGSTOP, wedge) a part, and wait until it is back and pictures are."""
    title = PARTS[part]
    victim = processes(title)[-1]
    await asyncio.sleep(random.uniform(0.2, 2.0))  # somewhere in the middle of the work
    os.kill(victim.pid, number)
    struck = time.monotonic()
    await replaced(title, victim)
    seconds = await answered(load, time.monotonic())
    verb = "stopped" if number == signal.SIGSTOP else "killed"
    console.print(f"{verb} {part}: pictures again after {time.monotonic() - struck:.1f} s ({seconds:.1f})")


@contextlib.contextmanager
def chaos_stack() -> Iterator[tuple[str, Settings, str]]:
    """The stages, and the settings that a gateway in front of them has."""
    settings = load_stack_settings()
    with stages_running(settings=settings) as stages:
        gateway = load_settings().model_copy(update={"port": free_port()})
        yield stages, gateway, f"127.0.0.1:{gateway.port}"


async def under_load(address: str, act: Callable[[Load], Any]) -> Load:
    """Draw all pictures once, then do something while callers draw them again and again."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        load = Load(image_service_pb2_grpc.ImageServiceStub(channel))
        for seed in range(SEEDS):
            load.drawn[seed] = await load.draw(seed)
        running = asyncio.create_task(load.run())
        try:
            load.seconds = await act(load)
        finally:
            load.stopped = True
            await running
        return load


async def kill_all(load: Load, kills: int) -> None:
    """So many kills of replicas in turn, then each of the other parts, and a wedged decoder."""
    for i in range(kills):
        await strike(load, ("decoder", "prior", "text_encoder", "image_encoder")[i % 4], signal.SIGKILL)
    for part in ("proxy", "controller"):
        await strike(load, part, signal.SIGKILL)
    await strike(load, "decoder", signal.SIGSTOP)


async def kill_gateway(load: Load, stages: str, settings: Settings) -> float:
    """Callers see UNAVAILABLE alone, and are served again soon after another gateway has started.

    Returns the seconds that that took.
    """
    for process in psutil.Process().children():
        if "gateway.server" in " ".join(process.cmdline()):
            process.kill()
            process.wait()
    await asyncio.sleep(2)
    with gateway_running(stages, settings):
        restarted = time.monotonic()
        seconds = await answered(load, restarted)
        console.print(f"killed the gateway: pictures again {seconds:.1f} s after its restart")
        load.stopped = True
        await asyncio.sleep(DEADLINE / 10)
        return seconds


@click.command()
@click.option("--kills", type=click.IntRange(0), default=100, show_default=True, help="Of replicas, in turn.")
def main(kills: int) -> None:
    """Kill parts of the stack under load; exit code 1 if a request was lost or a picture differs."""
    stop_on_signals()
    with chaos_stack() as (stages, settings, address):
        with gateway_running(stages, settings):
            load = asyncio.run(under_load(address, lambda load: kill_all(load, kills)))
        report = {
            "kills": kills,
            "outcomes": dict(load.outcomes),
            "different": load.different,
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(gateway_running(stages, settings))
            killed = asyncio.run(under_load(address, lambda load: kill_gateway(load, stages, settings)))
        report["gateway killed"] = {**killed.outcomes, "back after seconds": killed.seconds}
    console.print(report)
    keep("chaos", **report)
    lost = sum(load.outcomes.values()) - load.outcomes["OK"]
    only_unavailable = set(killed.outcomes) <= {"OK", "UNAVAILABLE"}
    in_time = killed.seconds is not None and killed.seconds <= GATEWAY_BACK_SECONDS
    if lost or load.different or killed.different or not only_unavailable or not in_time:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
