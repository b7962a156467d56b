"""``python -m tests.bench.simulation``: whether the simulation says what the live stack then does.

The same requests, at the same times, go to the local stack and through a simulated one, with one decoder and
with two, which wait instead of computing. The simulated one knows what the live stages tell of their costs.
The table goes to the terminal, and the same figures to out/bench/simulation-live.json.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import grpc
import grpc.aio
from rich.console import Console

from deploy.local.cluster import CONFIGS, cluster_running, serve_config
from deploy.local.gateway import gateway_running
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from deploy.monitoring.load import picture
from deploy.simulation.arrivals import Arrival, arrivals
from deploy.simulation.gateway import Outcome
from deploy.simulation.measure import measured
from deploy.simulation.scenario import Report, Scenario, report_of, run
from gateway.environment import load_settings
from services.wire.stages import STAGES
from tests.bench.apart import apart
from tests.bench.overload import OPTIONS
from tests.bench.results import keep, show
from tests.statuses import refused_by
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

DEADLINE = 20.0
SEED = 7
PICTURES = 12  # at once for each decoder, whose rate it is then
WARM_UPS = 3  # times before anything is measured: calls of every size are compared and timed


@dataclass(frozen=True)
class Row:
    """One line of the table. load: of what full calls would carry."""

    decoders: int
    load: float
    what: str
    asked: int
    goodput: float
    refused: float
    lost: float
    p50: float
    p99: float


class Live:
    """Sends arrivals to a gateway."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._picture = picture(256)

    async def serve(self, arrival: Arrival) -> Outcome:
        """A request from its arrival to its end."""
        started = time.monotonic()
        try:
            await self._call(arrival)
            ending = "done"
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                ending = "refused" if refused_by(error) == "gateway" else "refused late"
            else:
                ending = "missed" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else "failed"
        return Outcome(arrival, ending, time.monotonic() - started, 0.0)  # type: ignore[arg-type]

    async def _call(self, arrival: Arrival) -> Any:
        priority = pb.PRIORITY_BATCH if arrival.priority == "batch" else pb.PRIORITY_INTERACTIVE
        options = pb.SamplingOptions(n=arrival.pictures, priority=priority)
        if arrival.steps:
            options.decoder_steps = arrival.steps
        if arrival.flow == "vary":
            request: Any = pb.VaryRequest(picture=self._picture, options=options)
            return await self._stub.Vary(request, timeout=arrival.deadline)
        if arrival.flow == "inpaint":
            request = pb.InpaintRequest(picture=self._picture, prompt="a fox", options=options)
            return await self._stub.Inpaint(request, timeout=arrival.deadline)
        request = pb.GenerateRequest(prompt="a fox in the snow", options=options)
        return await self._stub.Generate(request, timeout=arrival.deadline)


async def saturated(address: str, count: int) -> float:
    """So many pictures at once: stages then know what their calls cost. Returns pictures a second."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        live = Live(image_service_pb2_grpc.ImageServiceStub(channel))
        started = time.monotonic()
        await asyncio.gather(*(live.serve(Arrival(0.0, "generate", 1, 0, 600.0)) for _ in range(count)))
        return count / (time.monotonic() - started)


async def loaded(address: str, rate: float, seconds: float) -> list[Outcome]:
    """The trace, live."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        live = Live(image_service_pb2_grpc.ImageServiceStub(channel))
        started = time.monotonic()
        calls = []
        for arrival in arrivals("steady", rate, seconds, DEADLINE, random.Random(SEED)):
            await asyncio.sleep(max(0.0, started + arrival.at - time.monotonic()))
            calls.append(asyncio.create_task(live.serve(arrival)))
        return await asyncio.gather(*calls)


def compared(decoders: int, loads: Sequence[float], seconds: float, *, computing: bool) -> list[Row]:
    """Live and simulated, at each load. computing: the decoders do, else they wait."""
    settings = load_stack_settings()
    config = serve_config(STAGES, settings)
    for application in config["applications"]:
        if application["name"] == "decoder":
            application["args"]["threads"] = 1
            if not computing:
                application["import_path"] = "tests.fakes.waiting_decoder:build"
            scaling = application["deployments"][0]["autoscaling_config"]
            scaling |= {"min_replicas": decoders, "max_replicas": decoders}
    rows = []
    with (
        cluster_running(config, settings, cpus=8) as stages,
        gateway_running(stages, load_settings().model_copy(update={"port": free_port()})) as address,
    ):
        for _ in range(WARM_UPS):
            apart(saturated, address, decoders * PICTURES)
        most = apart(saturated, address, decoders * PICTURES) / decoders
        for load in loads:
            rate = load * decoders * measured(stages, CONFIGS, "").decoder.pictures_a_second
            outcomes = apart(loaded, address, rate, seconds)
            profile = measured(stages, CONFIGS, "here").saturated(most)  # as they were under this load
            scenario = Scenario(profile, rate, DEADLINE, 1, decoders, seconds=seconds, seed=SEED)
            rows.append(row(scenario, load, "live", report_of(scenario, outcomes)))
            rows.append(row(scenario, load, "simulated", run(scenario)))
            Console(stderr=True).print(rows[-2:])
    return rows


def row(scenario: Scenario, load: float, what: str, report: Report) -> Row:
    """A report as a line."""
    return Row(
        scenario.decoders,
        load,
        what,
        report.asked,
        round(report.goodput, 3),
        round(report.refused, 3),
        round(report.lost, 3),
        round(report.p50, 2),
        round(report.p99, 2),
    )


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=30), default=180.0, show_default=True, help="Of each run."
)
@click.option("--loads", default="0.5,0.8,1.5", show_default=True, help="Of what full calls would carry.")
@click.option("--decoders", default="1,2", show_default=True)
@click.option(
    "--computing", is_flag=True, help="Decoders compute, and so slow one another down on one machine."
)
def main(seconds: float, loads: str, decoders: str, computing: bool) -> None:
    """Print a table, and write out/bench/simulation-live.json."""
    stop_on_signals()
    rows: list[Row] = []
    for count in map(int, decoders.split(",")):
        rows += compared(count, [float(load) for load in loads.split(",")], seconds, computing=computing)
    show(rows)
    keep("simulation-live", rows=[asdict(line) for line in rows])


if __name__ == "__main__":
    main()
