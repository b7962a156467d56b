"""Four stages in one grpc.aio server that answer at once, with results of the right shapes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np

from gateway.stages import PROXY_HEALTH
from services.wire.tensors import to_message
from unclip.internal.v1 import (
    decoder_service_pb2,
    decoder_service_pb2_grpc,
    image_encoder_service_pb2,
    image_encoder_service_pb2_grpc,
    prior_service_pb2,
    prior_service_pb2_grpc,
    stage_service_pb2,
    stage_service_pb2_grpc,
    text_encoder_service_pb2,
    text_encoder_service_pb2_grpc,
)

DIM, TOKENS, SIDE = 192, 32, 256
EMBEDDING = to_message(np.ones(DIM, np.float32))
TEXT = text_encoder_service_pb2.TextConditioning(
    embedding=EMBEDDING,
    states=to_message(np.ones((TOKENS, DIM), np.float32)),
    mask=to_message(np.ones(TOKENS, np.bool_)),
)
PICTURE = to_message(np.zeros((SIDE, SIDE, 3), np.uint8))


class NoOpStages(
    text_encoder_service_pb2_grpc.TextEncoderServiceServicer,
    image_encoder_service_pb2_grpc.ImageEncoderServiceServicer,
    prior_service_pb2_grpc.PriorServiceServicer,
    decoder_service_pb2_grpc.DecoderServiceServicer,
    stage_service_pb2_grpc.StageServiceServicer,
):
    """Every stage's methods, without a model.

    The prior takes ``delay`` seconds, dies ``failures`` times and keeps trace contexts; stages in ``down`` do not answer;
    ``versions`` are those that stages say they serve, where it is not "0"; ``described`` are the stages that were asked.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay, self.failures = delay, 0
        self.traceparents: list[str] = []
        self.down: set[str] = set()
        self.versions: dict[str, str] = {}
        self.described: list[str] = []

    async def EncodeText(self, request: Any, context: Any) -> text_encoder_service_pb2.EncodeTextResponse:
        await self._answering("text_encoder", context)
        return text_encoder_service_pb2.EncodeTextResponse(texts=[TEXT for _ in request.texts], logit_scale=1)

    async def EncodeImage(self, request: Any, context: Any) -> image_encoder_service_pb2.EncodeImageResponse:
        return image_encoder_service_pb2.EncodeImageResponse(embedding=EMBEDDING)

    async def SamplePrior(
        self, request: Any, context: Any
    ) -> AsyncIterator[prior_service_pb2.SamplePriorResponse]:
        self.traceparents += [
            str(value) for key, value in context.invocation_metadata() if key == "traceparent"
        ]
        await asyncio.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield prior_service_pb2.SamplePriorResponse(result=prior_service_pb2.PriorResult(embedding=EMBEDDING))

    async def SampleDecoder(
        self, request: Any, context: Any
    ) -> AsyncIterator[decoder_service_pb2.SampleDecoderResponse]:
        yield decoder_service_pb2.SampleDecoderResponse(
            result=decoder_service_pb2.DecoderResult(picture=PICTURE)
        )

    async def Describe(self, request: Any, context: Any) -> stage_service_pb2.DescribeResponse:
        stage = str(dict(context.invocation_metadata())["application"])
        self.described.append(stage)
        await self._answering(stage, context)
        defaults = stage_service_pb2.SamplingDefaults(
            steps=1, guidance=1, upsampler_steps=1, candidates=1, size=SIDE
        )
        version = self.versions.get(stage, "0")
        return stage_service_pb2.DescribeResponse(
            model_name="none", model_version=version, sizes=[SIDE], defaults=defaults
        )

    async def _answering(self, stage: str, context: Any) -> None:
        if stage in self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


class _ProxyHealth(grpc.GenericRpcHandler):
    """Says that Ray Serve's proxy is well."""

    def service(self, handler_call_details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return b""

        return (
            grpc.unary_unary_rpc_method_handler(answer)
            if handler_call_details.method == PROXY_HEALTH
            else None
        )


@contextlib.asynccontextmanager
async def serve_no_op_stages(stages: NoOpStages | None = None) -> AsyncIterator[str]:
    """The stages on a free loopback port; yields their address."""
    server, stages = grpc.aio.server(), stages or NoOpStages()
    text_encoder_service_pb2_grpc.add_TextEncoderServiceServicer_to_server(stages, server)
    image_encoder_service_pb2_grpc.add_ImageEncoderServiceServicer_to_server(stages, server)
    prior_service_pb2_grpc.add_PriorServiceServicer_to_server(stages, server)
    decoder_service_pb2_grpc.add_DecoderServiceServicer_to_server(stages, server)
    stage_service_pb2_grpc.add_StageServiceServicer_to_server(stages, server)
    server.add_generic_rpc_handlers((_ProxyHealth(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
