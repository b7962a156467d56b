"""Four stages in one grpc.aio server: no model, results of the right shapes, and they do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

from gateway.settings import SHIPPED
from services.wire.errors import DETAILS_KEY, ServiceError, grpc_code, to_status
from services.wire.stages import APPLICATION_KEY, PROXY_HEALTH, STAGES
from services.wire.tensors import to_message
from unclip.internal.v1 import (
    decoder_service_pb2,
    decoder_service_pb2_grpc,
    image_encoder_service_pb2,
    image_encoder_service_pb2_grpc,
    prior_service_pb2,
    prior_service_pb2_grpc,
    sampling_pb2,
    stage_service_pb2,
    stage_service_pb2_grpc,
    text_encoder_service_pb2,
    text_encoder_service_pb2_grpc,
)

DIM = 4
TOKENS = 3
SIZES = (64, 256, 1024)
EMBEDDING = to_message(np.ones(DIM, np.float32))
PriorResponse = prior_service_pb2.SamplePriorResponse
DecoderResponse = decoder_service_pb2.SampleDecoderResponse


def load_of(
    backlog: float = 0.0, seconds: float = 0.001, max_rows: int = 64, rows: int = 0, replica: str = "one"
) -> Any:
    """What a replica tells of itself.

    Seconds of work it has, and seconds of a call of any of its networks.
    """
    costs = [
        sampling_pb2.NetworkCost(size=size, seconds=seconds, evaluations=2 if size <= 64 else 1)
        for size in (0, *SIZES)
    ]
    return sampling_pb2.EngineLoad(
        replica=replica, backlog_seconds=backlog, max_rows=max_rows, rows_running=rows, costs=costs
    )


def _embedding(text: str) -> Any:
    return to_message(np.array([1, len(text), 0, 2], np.float32))


@dataclass(eq=False)
class FakeStages(
    text_encoder_service_pb2_grpc.TextEncoderServiceServicer,
    image_encoder_service_pb2_grpc.ImageEncoderServiceServicer,
    prior_service_pb2_grpc.PriorServiceServicer,
    decoder_service_pb2_grpc.DecoderServiceServicer,
    stage_service_pb2_grpc.StageServiceServicer,
):
    """Every stage's methods. What a test sets decides what they do; what they were asked is kept."""

    delay: float = 0.0  # seconds that the prior takes
    step_seconds: float = 0.0  # of each of the decoder's steps
    failures: int = 0  # times that the prior's replica dies
    decoder_failures: int = 0  # times that the decoder's replica dies after its first step
    unfinished: int = 0  # times that the decoder's stream ends without a result
    refusal: ServiceError | None = None  # what the decoder answers instead
    refusals: dict[int, ServiceError] = field(default_factory=dict)  # what it answers in the end, by seed
    wedged: list[str] = field(default_factory=list)  # stages whose next call is never answered
    full: set[str] = field(default_factory=set)  # stages whose queue has no place left, for nobody
    image_width: int = 0  # of the image embedding, if it is another than the texts'
    down: set[str] = field(default_factory=set)  # stages that do not answer
    busy: set[str] = field(default_factory=set)  # stages that never get round to describing themselves
    model_name: str = SHIPPED
    ignores_text: bool = False  # the decoder does
    fixed_prior: bool = False  # the prior takes no steps and guidance but its own
    model_names: dict[str, str] = field(default_factory=dict)  # of stages of another bundle
    shape_multiple: int = 0  # of pictures that are not square, if it draws such
    versions: dict[str, str] = field(default_factory=dict)  # of the model, where it is not "0"
    last_word_read: str = ""
    lengths: bool = False  # whether texts of other lengths have other embeddings
    load: Any = field(default_factory=load_of)
    default_steps: int = 2
    described: list[str] = field(default_factory=list)
    traceparents: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    encoded_pictures: int = 0
    tasks: list[sampling_pb2.SamplingTask] = field(default_factory=list)
    pictures: list[decoder_service_pb2.SampleDecoderRequest] = field(default_factory=list)
    sampling: int = 0  # decoder calls under way

    async def EncodeText(self, request: Any, context: Any) -> text_encoder_service_pb2.EncodeTextResponse:
        await self._answering("text_encoder", context)
        await self._wedge("text_encoder")
        self.texts += request.texts
        conditioning = [
            text_encoder_service_pb2.TextConditioning(
                embedding=_embedding(text) if self.lengths else EMBEDDING,
                states=to_message(np.ones((TOKENS, DIM), np.float32)),
                mask=to_message(np.ones(TOKENS, np.bool_)),
                last_word_read=self.last_word_read if len(text) > 100 else "",
            )
            for text in request.texts
        ]
        return text_encoder_service_pb2.EncodeTextResponse(
            texts=conditioning, logit_scale=1, model_version=self.versions.get("text_encoder", "0")
        )

    async def EncodeImage(self, request: Any, context: Any) -> image_encoder_service_pb2.EncodeImageResponse:
        await self._answering("image_encoder", context)
        width = self.image_width
        embedding = to_message(np.ones(width, np.float32)) if width else EMBEDDING
        self.encoded_pictures += 1
        version = self.versions.get("image_encoder", "0")
        return image_encoder_service_pb2.EncodeImageResponse(embedding=embedding, model_version=version)

    async def SamplePrior(self, request: Any, context: Any) -> AsyncIterator[PriorResponse]:
        await self._answering("prior", context)
        self.tasks.append(request.task)
        self.traceparents += [
            str(value) for key, value in context.invocation_metadata() if key == "traceparent"
        ]
        await asyncio.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        steps = request.task.steps
        yield PriorResponse(progress=sampling_pb2.TaskProgress(step=steps, steps=steps), load=self.load)
        yield PriorResponse(result=prior_service_pb2.PriorResult(embedding=EMBEDDING), load=self.load)

    async def SampleDecoder(self, request: Any, context: Any) -> AsyncIterator[DecoderResponse]:
        await self._answering("decoder", context)
        self.pictures.append(request)
        self.tasks.append(request.task)
        if self.refusal is not None:
            await self._refuse(self.refusal, context)
        self.sampling += 1
        try:
            async for response in self._steps(request, context):
                yield response
        finally:
            self.sampling -= 1

    async def _steps(self, request: Any, context: Any) -> AsyncIterator[DecoderResponse]:
        steps = request.task.steps
        raised = request.size > SIZES[0]
        for step in range(1, steps + 1):
            await asyncio.sleep(self.step_seconds)
            progress = sampling_pb2.TaskProgress(step=step, steps=steps)
            event = decoder_service_pb2.DecoderProgress(progress=progress, more=raised)
            yield DecoderResponse(progress=event, load=self.load)
            await self._wedge("decoder")
            if self.decoder_failures:
                self.decoder_failures -= 1
                await context.abort(grpc.StatusCode.INTERNAL, "the actor died at 10.0.0.1")
            if request.preview_interval and step % request.preview_interval == 0 and step < steps:
                picture = to_message(np.full((64, 64, 3), step, np.uint8))
                yield DecoderResponse(preview=decoder_service_pb2.DecoderPreview(picture=picture))
        if raised:
            progress = sampling_pb2.TaskProgress(step=1, steps=1)
            yield DecoderResponse(
                progress=decoder_service_pb2.DecoderProgress(upsampling=True, progress=progress)
            )
        if (refusal := self.refusals.get(request.task.seed)) is not None:
            await asyncio.sleep(5 * self.step_seconds)  # the others are done by then
            await self._refuse(refusal, context)
        if self.unfinished:
            self.unfinished -= 1
            return
        colour = request.task.seed % 251
        picture = to_message(np.full((request.size, request.width or request.size, 3), colour, np.uint8))
        yield DecoderResponse(result=decoder_service_pb2.DecoderResult(picture=picture), load=self.load)

    async def Describe(self, request: Any, context: Any) -> stage_service_pb2.DescribeResponse:
        application = str(dict(context.invocation_metadata())[APPLICATION_KEY])
        stage = application.removeprefix(f"{self.model_name}-")
        self.described.append(stage)
        await self._answering(stage, context)
        if stage in self.full:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "ray: back pressure")
        if stage in self.busy:
            await asyncio.sleep(3600)
        defaults = stage_service_pb2.SamplingDefaults(
            steps=self.default_steps,
            guidance=2,
            upsampler_steps=1,
            candidates=1,
            fixed=self.fixed_prior and stage == "prior",
            size=SIZES[1],
            similarity=0.3,
        )
        return stage_service_pb2.DescribeResponse(
            model_name=self.model_names.get(stage, self.model_name),
            model_version=self.versions.get(stage, "0"),
            sizes=SIZES if stage == "decoder" else (),
            native_sizes=SIZES[:1] if stage == "decoder" else (),
            shape_multiple=self.shape_multiple if stage == "decoder" else 0,
            made_for=SIZES[1],
            ignores_text=self.ignores_text,
            defaults=defaults,
            load=self.load if stage in ("prior", "decoder") else None,
        )

    async def _wedge(self, stage: str) -> None:
        if stage in self.wedged:
            self.wedged.remove(stage)
            await asyncio.sleep(3600)

    async def _refuse(self, refusal: ServiceError, context: Any) -> None:
        status = to_status(refusal)
        details = ((DETAILS_KEY, status.SerializeToString()),)
        await context.abort(grpc_code(status), status.message, details)

    async def _answering(self, stage: str, context: Any) -> None:
        if stage in self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


class ProxyHealth(grpc.GenericRpcHandler):
    """Says that Ray Serve's proxy is well."""

    def service(self, handler_call_details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return b""

        asked = handler_call_details.method == PROXY_HEALTH
        return grpc.unary_unary_rpc_method_handler(answer) if asked else None


@contextlib.asynccontextmanager
async def serve_fake_stages(
    stages: FakeStages | None = None, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """The stages on a free loopback port; yields their address. credentials: of a port with TLS."""
    stages = stages or FakeStages()
    server = grpc.aio.server()
    text_encoder_service_pb2_grpc.add_TextEncoderServiceServicer_to_server(stages, server)
    image_encoder_service_pb2_grpc.add_ImageEncoderServiceServicer_to_server(stages, server)
    prior_service_pb2_grpc.add_PriorServiceServicer_to_server(stages, server)
    decoder_service_pb2_grpc.add_DecoderServiceServicer_to_server(stages, server)
    stage_service_pb2_grpc.add_StageServiceServicer_to_server(stages, server)
    server.add_generic_rpc_handlers((ProxyHealth(),))
    target = "127.0.0.1:0"
    port = server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def addresses_of(address: str) -> dict[str, Any]:
    """The gateway's settings that name one address for all stages."""
    return {f"{stage}_address": address for stage in STAGES}
