"""``python -m deploy.simulation.measure``: a profile of live stages, which have drawn some pictures before.

Steps, guidance and seconds of calls are what the stages tell; call sizes and limits are their Serve configs'.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import grpc
import yaml

from deploy.simulation.profile import Call, NetworkProfile, Profile, StageProfile
from gateway.flows.flow import evaluations
from services.bundles.bundle import ROOT
from services.engine.settings import EngineSettings
from services.wire.stages import APPLICATION_KEY
from unclip.internal.v1 import (
    stage_service_pb2,
    stage_service_pb2_grpc,
    text_encoder_service_pb2,
    text_encoder_service_pb2_grpc,
)

TEXTS = 20
SECONDS = 60.0  # that an answer is waited for


def measured(address: str, configs: Path, device: str) -> Profile:
    """The profile of the stages at one address. Raises ValueError and grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        answers = {stage: _describe(channel, stage) for stage in ("prior", "decoder")}
        encoder_seconds = _encoder_seconds(channel)
    prior, decoder = (
        _stage(answer, yaml.safe_load((configs / f"{stage}.yaml").read_text()))
        for stage, answer in answers.items()
    )
    name = answers["decoder"].model_name
    return Profile(device=device, model=name, prior=prior, decoder=decoder, encoder_seconds=encoder_seconds)


def _describe(channel: grpc.Channel, stage: str) -> Any:
    stub: Any = stage_service_pb2_grpc.StageServiceStub(channel)
    metadata = ((APPLICATION_KEY, stage),)
    return stub.Describe(stage_service_pb2.DescribeRequest(), metadata=metadata, timeout=SECONDS)


def _stage(answer: Any, config: dict[str, Any]) -> StageProfile:
    args = config["applications"][0]["args"]
    defaults = answer.defaults
    size = args.get("size") or answer.made_for
    native = sorted(answer.native_sizes)
    raised = [side for side in answer.sizes if side not in native and side <= size]
    steps = [defaults.steps, *[defaults.upsampler_steps] * len(raised)]
    call_sizes = [args.get("call_sizes", ()), *[args.get("upsampler_call_sizes", ())] * len(raised)]
    counts = [evaluations(defaults.guidance, defaults.guided_share or 1.0), *[1] * len(raised)]
    sides = [native[0] if native else 0, *raised]
    networks = [
        NetworkProfile(size=side, call_sizes=call, steps=step, evaluations=count, calls=_calls(answer, side))
        for side, call, step, count in zip(sides, call_sizes, steps, counts, strict=True)
    ]
    engine = EngineSettings.model_validate(args["engine"])
    return StageProfile(networks=tuple(networks), rows=max(1, defaults.candidates), engine=engine)


def _calls(answer: Any, size: int) -> tuple[Call, ...]:
    told = sorted((c.evaluations, c.seconds) for c in answer.load.costs if c.size == size)
    if not told:
        raise ValueError(f"the network for {size} px was not yet measured: draw some pictures first")
    return tuple(Call(evaluations=count, seconds=seconds) for count, seconds in told)


def _encoder_seconds(channel: grpc.Channel) -> float:
    stub: Any = text_encoder_service_pb2_grpc.TextEncoderServiceStub(channel)
    times = []
    for i in range(TEXTS):
        started = time.perf_counter()
        request = text_encoder_service_pb2.EncodeTextRequest(texts=[f"a fox in the snow {i}"])
        stub.EncodeText(request, metadata=((APPLICATION_KEY, "text_encoder"),), timeout=SECONDS)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@click.command()
@click.option("--address", default="127.0.0.1:9000", show_default=True, help="Of the stages' proxy.")
@click.option(
    "--configs", default="deploy/serve", show_default=True, help="The folder of their Serve configs."
)
@click.option("--device", required=True, help="What to call it.")
@click.option(
    "--pictures", type=float, help="A second, of one decoder that is always busy, if you measured it."
)
@click.option("--price", default=1.0, show_default=True, help="Of a replica's device, an hour.")
@click.option("--cold-start", default=60.0, show_default=True, help="Seconds until a new replica serves.")
def main(
    address: str, configs: str, device: str, pictures: float | None, price: float, cold_start: float
) -> None:
    """Print a profile."""
    try:
        profile = measured(address, ROOT / configs, device)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except grpc.RpcError as error:
        raise click.ClickException(f"{address} does not answer: {error.code().name}") from None
    if pictures:
        profile = profile.saturated(pictures)
    chosen = {"hourly_price": price, "cold_start_seconds": cold_start}
    click.echo(profile.model_copy(update=chosen).model_dump_json(indent=1))


if __name__ == "__main__":
    main()
