"""A bundle's stages behind gRPC in this process, without Ray.

What replicas run, for the gateway's own flows.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from gateway.settings import SHIPPED
from gateway.settings import Settings as GatewaySettings
from gateway.stages import Clients, Stages
from services.bundles.clip_source import ClipSettings, ClipSource
from services.decoder.settings import Settings as DecoderSettings
from services.decoder.stage import DecoderStage
from services.engine.settings import EngineSettings
from services.image_encoder.stage import ImageEncoderStage
from services.prior.settings import Settings as PriorSettings
from services.prior.stage import PriorStage
from services.text_encoder.stage import TextEncoderStage
from services.wire.stages import STAGES
from unclip.internal.v1 import (
    decoder_service_pb2_grpc,
    image_encoder_service_pb2_grpc,
    prior_service_pb2_grpc,
    text_encoder_service_pb2_grpc,
)

MESSAGE_BYTES = 64 * 2**20
# Many pictures at a time, in calls of any size: evaluation wants throughput.
ENGINE = EngineSettings(max_batch=64, max_running=256, max_waiting=4096)


class ServedStages(
    text_encoder_service_pb2_grpc.TextEncoderServiceServicer,
    image_encoder_service_pb2_grpc.ImageEncoderServiceServicer,
    prior_service_pb2_grpc.PriorServiceServicer,
    decoder_service_pb2_grpc.DecoderServiceServicer,
):
    """The four stages of a bundle, in one server."""

    def __init__(self, bundle: Path, threads: int) -> None:
        path = str(bundle)
        clip = ClipSettings(clip=ClipSource(bundle=path), threads=threads)
        self.text_encoder = TextEncoderStage(clip)
        self.image_encoder = ImageEncoderStage(clip)
        self.prior = PriorStage(PriorSettings(bundle=path, threads=threads, engine=ENGINE))
        decoder = DecoderSettings(bundle=path, threads=threads, engine=ENGINE, upsampler_call_sizes=(1,))
        self.decoder = DecoderStage(decoder)

    async def EncodeText(self, request: Any, context: Any) -> Any:
        """Embed texts."""
        return await self.text_encoder.encode(request)

    async def EncodeImage(self, request: Any, context: Any) -> Any:
        """Embed a picture."""
        return await self.image_encoder.encode(request)

    async def SamplePrior(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Draw candidates and keep the best."""
        async with contextlib.aclosing(self.prior.sample(request)) as responses:
            async for response in responses:
                yield response

    async def SampleDecoder(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Make one picture."""
        async with contextlib.aclosing(self.decoder.sample(request)) as responses:
            async for response in responses:
                yield response


@contextlib.asynccontextmanager
async def serving(stages: ServedStages) -> AsyncIterator[Stages]:
    """The gateway's clients of these stages, on loopback."""
    options = (
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
    )
    server = grpc.aio.server(options=options)
    text_encoder_service_pb2_grpc.add_TextEncoderServiceServicer_to_server(stages, server)
    image_encoder_service_pb2_grpc.add_ImageEncoderServiceServicer_to_server(stages, server)
    prior_service_pb2_grpc.add_PriorServiceServicer_to_server(stages, server)
    decoder_service_pb2_grpc.add_DecoderServiceServicer_to_server(stages, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses: dict[str, Any] = {f"{stage}_address": f"127.0.0.1:{port}" for stage in STAGES}
    clients = Clients(GatewaySettings(**addresses))
    try:
        yield clients.of(SHIPPED)
    finally:
        await clients.close()
        await server.stop(None)
