"""Imported bundles behind a real gateway: their stages in this process, without Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from gateway.server import Gateway
from gateway.settings import Settings
from services.training.evaluation.served import ServedStages
from services.wire.stages import APPLICATION_KEY
from tests.fakes.stages import ProxyHealth, addresses_of
from unclip.internal.v1 import (
    decoder_service_pb2_grpc,
    image_encoder_service_pb2_grpc,
    prior_service_pb2_grpc,
    stage_service_pb2_grpc,
    text_encoder_service_pb2_grpc,
)
from unclip.v1 import image_service_pb2_grpc


class DescribedStages(ServedStages, stage_service_pb2_grpc.StageServiceServicer):
    """All that replicas of the four stages answer."""

    async def Describe(self, request: Any, context: Any) -> Any:
        return getattr(self, dict(context.invocation_metadata())[APPLICATION_KEY]).describe()


@contextlib.asynccontextmanager
async def served(bundle: Path) -> AsyncIterator[Any]:
    """A stub of the public service, which draws with this bundle."""
    stages = DescribedStages(bundle, threads=2)
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    text_encoder_service_pb2_grpc.add_TextEncoderServiceServicer_to_server(stages, server)
    image_encoder_service_pb2_grpc.add_ImageEncoderServiceServicer_to_server(stages, server)
    prior_service_pb2_grpc.add_PriorServiceServicer_to_server(stages, server)
    decoder_service_pb2_grpc.add_DecoderServiceServicer_to_server(stages, server)
    stage_service_pb2_grpc.add_StageServiceServicer_to_server(stages, server)
    server.add_generic_rpc_handlers((ProxyHealth(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway = Gateway(Settings(port=0, **addresses_of(f"127.0.0.1:{port}")))
    await gateway.start()
    try:
        options = (("grpc.max_receive_message_length", -1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel:
            yield image_service_pb2_grpc.ImageServiceStub(channel)
    finally:
        await gateway.stop(0)
        await server.stop(None)
