"""``python -m tests.bench.overload``: how much useful work is left when callers ask for more than there is.

First the peak: callers that each wait for their picture. Then callers that do not wait, at multiples of the
peak, with deadlines. Goodput is pictures that were in time, over the peak of the same run or over what was
asked for, whichever is less. The table goes to the terminal, and the same figures to out/bench/overload.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import click
import grpc
import grpc.aio
from rich.console import Console

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.loopback import NODE_ADDRESS
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.environment import load_settings
from tests.bench.apart import apart
from tests.bench.results import keep, show
from tests.bench.work import Work
from tests.statuses import refused_by
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PROMPTS = (
    "a lemon on a wooden table",
    "a fox in the snow",
    "two balloons at the beach",
    "an owl in the forest",
)
CALLERS = 6
WARM_UP = 10.0
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
Deadline = Callable[[random.Random], float]
DEADLINES: dict[str, Deadline] = {
    "8 s": lambda dice: 8.0,
    "3 to 30 s": lambda dice: dice.choice((3.0, 6.0, 8.0, 12.0, 30.0)),
}


@dataclass
class Outcomes:
    """How the requests of a run ended, and when."""

    done: list[float] = field(default_factory=list)  # times at which pictures were there
    refused: list[float] = field(default_factory=list)  # seconds that refusals at the door took
    refused_late: int = 0  # by a stage
    missed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    refused: at the door, in so many ms; refused_late: by a stage. wasted: share of steps that were taken for
    requests that were not in time.
    """

    gateways: int
    deadlines: str
    load: float
    goodput: float
    asked: int
    in_time: int
    refused: int
    refused_late: int
    missed: int
    failed: int
    door_p50_ms: float
    door_p99_ms: float
    wasted: float


class Callers:
    """Sends requests to gateways in turn."""

    def __init__(self, stubs: Sequence[Any]) -> None:
        self._stubs = itertools.cycle(stubs)
        self._seeds = itertools.count()

    async def draw(self, outcomes: Outcomes, timeout: float | None) -> None:
        """Ask for one picture."""
        seed = next(self._seeds)
        request = pb.GenerateRequest(
            prompt=PROMPTS[seed % len(PROMPTS)], options=pb.SamplingOptions(seed=seed)
        )
        started = time.monotonic()
        try:
            await next(self._stubs).Generate(request, timeout=timeout)
            outcomes.done.append(time.monotonic())
        except grpc.aio.AioRpcError as error:
            if refused_by(error) == "gateway":
                outcomes.refused.append(time.monotonic() - started)
            elif error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcomes.refused_late += 1
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                outcomes.missed += 1
            else:
                outcomes.failed += 1

    async def closed_loop(self, seconds: float) -> float:
        """Pictures a second that callers get who each wait for theirs."""
        outcomes = Outcomes()
        started = time.monotonic()
        until = started + WARM_UP + seconds

        async def one_after_another() -> None:
            while time.monotonic() < until:
                await self.draw(outcomes, None)

        await asyncio.gather(*(one_after_another() for _ in range(CALLERS)))
        counted = [done for done in outcomes.done if started + WARM_UP <= done < until]
        return len(counted) / seconds

    async def open_loop(
        self, rate: float, deadline: Deadline, seconds: float
    ) -> tuple[Outcomes, float, float]:
        """What becomes of requests that arrive at random at this rate.

        And, a second: the pictures that were in time, and those that were asked for.
        """
        outcomes = Outcomes()
        dice = random.Random(7)
        started = time.monotonic()
        until = started + WARM_UP + seconds
        calls = []
        offered = 0
        arrival = started
        while arrival < until:
            await asyncio.sleep(max(0.0, arrival - time.monotonic()))
            calls.append(asyncio.create_task(self.draw(outcomes, deadline(dice))))
            offered += arrival >= started + WARM_UP
            arrival += dice.expovariate(rate)
        await asyncio.gather(*calls)
        counted = [done for done in outcomes.done if started + WARM_UP <= done < until]
        return outcomes, len(counted) / seconds, offered / seconds


@contextlib.contextmanager
def gateways_running(stages: str, count: int) -> Iterator[list[str]]:
    """So many gateways in front of the stages."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                gateway_running(stages, load_settings().model_copy(update={"port": free_port()}))
            )
            for _ in range(count)
        ]


def quantile(values: Sequence[float], share: float) -> float:
    """In milliseconds; 0 of none."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0


async def measure(
    addresses: Sequence[str], metrics: str, loads: Sequence[float], seconds: float
) -> tuple[float, list[Row]]:
    """The peak at these gateways, and a row for each kind of deadline and load."""
    console = Console(stderr=True)
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OPTIONS))
            for address in addresses
        ]
        callers = Callers([image_service_pb2_grpc.ImageServiceStub(channel) for channel in channels])
        peak = await callers.closed_loop(2 * seconds)  # which all the others are compared with
        console.print(f"{len(addresses)} gateway(s): peak {peak:.2f} pictures a second")
        for (name, deadline), load in itertools.product(DEADLINES.items(), loads):
            before = Work.now(metrics)
            outcomes, rate, offered = await callers.open_loop(load * peak, deadline, seconds)
            await asyncio.sleep(5)  # Ray exports its metrics every few seconds
            wasted = Work.now(metrics).share_in_vain(
                before,
                done=len(outcomes.done),
                refused_late=outcomes.refused_late,
                missed=outcomes.missed + outcomes.failed,
            )
            refusals = len(outcomes.refused) + outcomes.refused_late
            asked = len(outcomes.done) + refusals + outcomes.missed + outcomes.failed
            rows.append(
                Row(
                    len(addresses),
                    name,
                    load,
                    round(rate / min(peak, offered), 3),
                    asked,
                    len(outcomes.done),
                    len(outcomes.refused),
                    outcomes.refused_late,
                    outcomes.missed,
                    outcomes.failed,
                    quantile(outcomes.refused, 0.5),
                    quantile(outcomes.refused, 0.99),
                    round(wasted, 4),
                )
            )
            console.print(rows[-1])
    return peak, rows


@click.command()
@click.option("--seconds", type=click.FloatRange(min=5), default=40.0, show_default=True, help="Of each run.")
@click.option(
    "--loads", default="1,3,10", show_default=True, help="Multiples of the peak, with commas between."
)
@click.option("--gateways", default="1,2", show_default=True, help="How many there are, with commas between.")
def main(seconds: float, loads: str, gateways: str) -> None:
    """Overload the local stack, print a table and write out/bench/overload.json."""
    stop_on_signals()
    multiples = [float(load) for load in loads.split(",")]
    port = free_port()
    settings = load_stack_settings().model_copy(update={"metrics_port": port})
    peaks = {}
    rows: list[Row] = []
    with stages_running(settings=settings) as stages:
        for count in map(int, gateways.split(",")):
            with gateways_running(stages, count) as addresses:
                metrics = f"http://{NODE_ADDRESS}:{port}/metrics"
                peak, measured = apart(measure, addresses, metrics, multiples, seconds)
                peaks[count] = peak
                rows += measured
    show(rows)
    keep("overload", peaks=peaks, rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
