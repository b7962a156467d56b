"""A stage dead, silent or busy, and a gateway that stops: every request ends, and tells why."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from gateway.server import Gateway
from gateway.settings import SHIPPED, Settings
from services.wire.errors import DeadlineMissed, Overloaded, StageMismatch
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from tests.gateway.conftest import FOX, SERVING, fronting, health, png_of, refusal, until
from tests.pictures import drawn
from tests.statuses import refused_by, retry_delay
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

# --- a stage is dead ---


@pytest.mark.parametrize(
    ("down", "fine", "fails"),
    [
        ("image_encoder", FOX, pb.VaryRequest(picture=png_of(Image.new("RGB", (9, 9))))),
        ("prior", pb.VaryRequest(picture=png_of(Image.new("RGB", (9, 9)))), FOX),
    ],
)
async def test_only_what_needs_a_stage_fails_while_it_is_down(down: str, fine: Any, fails: Any) -> None:
    async with fronting(FakeStages(down={down}), look_interval=0.05) as front:
        methods = {pb.GenerateRequest: front.images.Generate, pb.VaryRequest: front.images.Vary}
        assert (await methods[type(fine)](fine)).pictures
        error = await refusal(methods[type(fails)](fails))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert down.replace("_", " ") in (error.details() or "")
        await asyncio.sleep(0.2)
        assert await health(front.channel) == SERVING


async def test_not_ready_before_the_model_is_known() -> None:
    stages = FakeStages(down={"decoder"})
    async with fronting(stages, look_interval=0.05) as front:
        assert await health(front.channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await health(front.channel, "live") == SERVING
        assert (await refusal(front.images.Generate(FOX))).code() is grpc.StatusCode.UNAVAILABLE
        stages.down.clear()
        await asyncio.sleep(0.3)
        assert await health(front.channel) == SERVING


async def test_a_busy_stage_is_not_down() -> None:
    stages = FakeStages()
    async with fronting(stages, look_interval=0.05) as front:
        await front.images.Generate(FOX)
        stages.busy.add("decoder")
        await asyncio.sleep(0.2)
        assert front.gateway.models._images[SHIPPED].watch.down == ()
        assert (await front.images.Generate(FOX)).pictures


async def test_a_call_whose_replica_was_gone_is_made_again_with_the_time_that_is_left() -> None:
    stages = FakeStages(failures=1, delay=0.3)
    async with fronting(stages) as front:
        assert (await front.images.Generate(FOX, timeout=20)).pictures
        first, second = (task.time_left.ToMilliseconds() for task in stages.tasks[:2])
        assert second <= first - 300
        stages.failures = 3
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "prior" in (error.details() or "")


@pytest.mark.parametrize("fault", ["decoder_failures", "unfinished"])
async def test_a_stream_that_breaks_or_ends_without_a_result_is_made_again(fault: str) -> None:
    stages = FakeStages()
    async with fronting(stages) as front:
        whole = (
            await front.images.Generate(
                pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(seed=9))
            )
        ).pictures[0]
        setattr(stages, fault, 1)
        again = (
            await front.images.Generate(
                pb.GenerateRequest(prompt="a fox", options=pb.SamplingOptions(seed=9))
            )
        ).pictures[0]
        assert drawn(again.data) == drawn(whole.data)
        setattr(stages, fault, 3)
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "10.0.0.1" not in (error.details() or "")


@pytest.mark.parametrize(
    ("told", "code", "delay"),
    [
        (Overloaded("the queue is full", 7.5), grpc.StatusCode.RESOURCE_EXHAUSTED, 7.5),
        (DeadlineMissed("it cannot be met"), grpc.StatusCode.DEADLINE_EXCEEDED, None),
        (StageMismatch("no"), grpc.StatusCode.FAILED_PRECONDITION, None),
    ],
)
async def test_what_a_stage_says_goes_to_the_caller(
    told: Any, code: grpc.StatusCode, delay: float | None
) -> None:
    async with fronting(FakeStages(refusal=told)) as front:
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is code
        assert retry_delay(error) == delay
        assert refused_by(error) == ("decoder" if delay else "")


async def test_a_silent_connection_is_left() -> None:
    """A proxy that goes silent: the call fails over to the retry, and the next one is served."""
    async with serve_fake_stages(FakeStages()) as address:
        host, port = address.split(":")
        silent = asyncio.Event()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            quiet = not silent.is_set()  # connections that are made later work
            back, forth = await asyncio.open_connection(host, int(port))

            async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    while quiet and silent.is_set():
                        await asyncio.sleep(0.05)
                    target.write(data)
                target.close()

            await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        relayed = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings: dict[str, Any] = {**addresses_of(address), "prior_address": relayed}
        gateway = Gateway(Settings(port=0, keepalive_seconds=1, **settings))
        await gateway.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
                images: Any = image_service_pb2_grpc.ImageServiceStub(channel)
                await images.Generate(FOX)
                silent.set()
                async with asyncio.timeout(20):
                    assert (await images.Generate(FOX, timeout=30)).pictures
        finally:
            await gateway.stop(0)
            server.close()


@pytest.mark.parametrize("stage", ["text_encoder", "decoder"])
async def test_a_stage_that_says_nothing_more_is_left(stage: str) -> None:
    """A replica that is stopped, whose proxy is there: its calls are made again."""
    async with fronting(FakeStages(wedged=[stage]), stage_silence_seconds=0.5) as front:
        assert (await front.images.Generate(FOX, timeout=30)).pictures
        assert not front.stages.wedged


async def test_a_stage_that_gives_signs_of_life_is_not_left() -> None:
    stages = FakeStages(step_seconds=0.3, default_steps=6)
    async with fronting(stages, stage_silence_seconds=1.0) as front:
        assert (await front.images.Generate(FOX)).pictures
        assert len(stages.pictures) == 1


# --- stopping ---


async def test_stopping_ends_when_the_work_ends_though_health_is_watched() -> None:
    stages = FakeStages(delay=0.3)
    async with serve_fake_stages(stages) as address:
        gateway = Gateway(Settings(port=0, **addresses_of(address)))
        await gateway.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            images: Any = image_service_pb2_grpc.ImageServiceStub(channel)
            running = asyncio.ensure_future(images.Generate(FOX))
            await until(lambda: bool(stages.tasks))
            async with asyncio.timeout(5):
                await gateway.stop(30)
            assert (await running).pictures


async def test_connections_are_opened_anew_and_calls_on_the_old_ones_end() -> None:
    stages = FakeStages(delay=1.5)
    async with fronting(stages, max_connection_seconds=0.5, look_interval=60) as front:
        held = asyncio.ensure_future(front.images.Generate(FOX))
        await until(lambda: len(stages.tasks) == 1)
        channel = front.gateway.models._clients.of(SHIPPED).prior.channel
        before = channel._channel
        await asyncio.sleep(0.6)
        stages.delay = 0
        assert (await front.images.Generate(FOX)).pictures
        assert channel._channel is not before
        assert (await held).pictures


async def test_a_retry_uses_the_connection_of_now() -> None:
    """The connection is opened anew while a picture is drawn, and its replica dies after that."""
    stages = FakeStages(step_seconds=0.8, decoder_failures=1)
    async with fronting(stages, max_connection_seconds=0.5, look_interval=0.2) as front:
        assert (await front.images.Generate(FOX)).pictures
        assert len(stages.pictures) == 2


async def test_stages_of_unlike_widths_do_not_fit_together() -> None:
    async with fronting(FakeStages(image_width=7)) as front:
        picture = png_of(Image.new("RGB", (9, 9)))
        request = pb.RankCaptionsRequest(picture=picture, captions=["a fox", "an owl"])
        error = await refusal(front.images.RankCaptions(request))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
