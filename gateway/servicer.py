"""The public ImageService: decode, run the flow, encode."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import duration_pb2

from gateway import calls
from gateway.flows.rank import rank_captions
from gateway.flows.request import FlowRequest
from gateway.malformed import well_formed
from gateway.model import Model, ModelWatch
from gateway.sample import Event, Made, Previewed, Progressed, Queued
from gateway.settings import Settings
from gateway.stages import Budget, Stages, normalised
from gateway.validation import Validation
from services.editing.pictures import encode_png
from services.wire.errors import DETAILS_KEY, grpc_code, to_status
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc as pb_grpc

logger = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
STAGES = {
    "text_encoder": pb.STAGE_TEXT_ENCODER,
    "image_encoder": pb.STAGE_IMAGE_ENCODER,
    "prior": pb.STAGE_PRIOR,
    "decoder": pb.STAGE_DECODER,
    "upsampler": pb.STAGE_UPSAMPLER,
}


async def refuse(error: Exception, context: Context) -> None:
    """End the call with the error's status and details."""
    status = to_status(error)
    code = grpc_code(status)
    if code is grpc.StatusCode.INTERNAL:
        logger.error("unforeseen error", exc_info=error)
    await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def answering(
    method: Callable[[Any, Any, Context], Awaitable[T]],
) -> Callable[[Any, Any, Context], Awaitable[T]]:
    """A unary method whose errors become statuses."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Context) -> T:
        try:
            return await method(self, well_formed(request), context)
        except Exception as error:
            await refuse(error, context)
            raise

    return answer


class ImageServicer(pb_grpc.ImageServiceServicer):
    """Every method validates all of its request before any stage works."""

    def __init__(self, settings: Settings, stages: Stages, watch: ModelWatch) -> None:
        self._settings, self._stages, self._watch = settings, stages, watch

    def _budget(self, context: Context, request_id: str) -> Budget:
        calls.identify(request_id)
        left, most = context.time_remaining(), self._settings.request_timeout
        return Budget(
            most if left is None else min(left, most),
            request_id,
            is_deadline=left is not None and left < most,
        )

    async def _validated(self, check: Callable[[Validation], T]) -> tuple[T, Model]:
        """Run a check in a thread (it may decode pictures) against the model that is served."""
        model = await self._watch.model()
        return await asyncio.to_thread(check, Validation(self._settings, model)), model

    async def _pictures(
        self, check: Callable[[Validation], FlowRequest], context: Context
    ) -> tuple[list[pb.Picture], str]:
        """Validate and run a flow to its pictures."""
        flow, model = await self._validated(check)
        made = await flow.run(self._stages, self._budget(context, flow.request_id), lambda index, event: None)
        return [await asyncio.to_thread(to_picture, m, model) for m in made], flow.request_id

    @answering
    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Draw pictures of a sentence."""
        pictures, request_id = await self._pictures(lambda v: v.generate(request), context)
        return pb.GenerateResponse(pictures=pictures, request_id=request_id)

    @answering
    async def Inpaint(self, request: pb.InpaintRequest, context: Context) -> pb.InpaintResponse:
        """Paint into the hole of a picture."""
        pictures, request_id = await self._pictures(lambda v: v.inpaint(request), context)
        return pb.InpaintResponse(pictures=pictures, request_id=request_id)

    @answering
    async def Outpaint(self, request: pb.OutpaintRequest, context: Context) -> pb.OutpaintResponse:
        """Extend a picture past its borders."""
        pictures, request_id = await self._pictures(lambda v: v.outpaint(request), context)
        return pb.OutpaintResponse(pictures=pictures, request_id=request_id)

    @answering
    async def Vary(self, request: pb.VaryRequest, context: Context) -> pb.VaryResponse:
        """Draw pictures like the given one."""
        pictures, request_id = await self._pictures(lambda v: v.vary(request), context)
        return pb.VaryResponse(pictures=pictures, request_id=request_id)

    async def Stream(self, request: pb.StreamRequest, context: Context) -> AsyncIterator[pb.StreamResponse]:
        """Any of the four flows, with what happens on the way."""
        try:
            stream = well_formed(request)
            flow, model = await self._validated(lambda v: v.stream(stream))
            async with contextlib.aclosing(
                self._events(flow, self._budget(context, flow.request_id))
            ) as events:
                async for index, event in events:
                    yield await asyncio.to_thread(to_response, index, event, flow.request_id, model)
        except Exception as error:
            await refuse(error, context)

    async def _events(self, flow: FlowRequest, budget: Budget) -> AsyncGenerator[tuple[int, Event], None]:
        """The flow's events as they come; leaving early cancels the flow."""
        queue: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()
        running = asyncio.create_task(
            flow.run(self._stages, budget, lambda index, event: queue.put_nowait((index, event)))
        )
        running.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                yield item
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @answering
    async def RankCaptions(
        self, request: pb.RankCaptionsRequest, context: Context
    ) -> pb.RankCaptionsResponse:
        """Order captions by how well they fit a picture."""
        (picture, request_id), _ = await self._validated(
            lambda v: (v.rank(request), v.identified(request.request_id))
        )
        ranked = await rank_captions(
            picture, list(request.captions), self._stages, self._budget(context, request_id)
        )
        captions = [
            pb.RankedCaption(caption=r.caption, probability=r.probability, index=r.index) for r in ranked
        ]
        return pb.RankCaptionsResponse(captions=captions, request_id=request_id)

    @answering
    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        """Embed a text."""
        request_id, _ = await self._validated(lambda v: v.embed_text(request))
        embeddings, _ = await self._stages.text_encoder.embed(
            [request.text], self._budget(context, request_id)
        )
        return pb.EmbedTextResponse(embedding=embeddings[0].tolist(), request_id=request_id)

    @answering
    async def EmbedImage(self, request: pb.EmbedImageRequest, context: Context) -> pb.EmbedImageResponse:
        """Embed a picture."""
        (picture, request_id), _ = await self._validated(
            lambda v: (v.picture(request.picture), v.identified(request.request_id))
        )
        embedding = await self._stages.image_encoder.encode(picture, self._budget(context, request_id))
        return pb.EmbedImageResponse(embedding=normalised(embedding).tolist(), request_id=request_id)

    @answering
    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Say what is served, its limits and defaults."""
        model, settings = await self._watch.model(), self._settings
        return pb.GetModelResponse(
            name=model.name,
            version=model.version,
            sizes=model.sizes,
            limits=pb.Limits(
                max_n=settings.max_n,
                max_prompt_characters=settings.max_prompt_characters,
                max_steps=settings.max_steps,
                max_guidance=settings.max_guidance,
                max_prior_candidates=settings.max_prior_candidates,
                max_captions=settings.max_captions,
                max_picture_bytes=settings.max_picture_bytes,
                max_picture_pixels=settings.max_picture_pixels,
                max_aspect_ratio=settings.max_aspect_ratio,
            ),
            defaults=pb.SamplingOptions(
                n=1,
                prior_steps=model.prior.steps,
                prior_guidance=model.prior.guidance,
                decoder_steps=model.decoder.steps,
                decoder_guidance=model.decoder.guidance,
                upsampler_steps=model.decoder.upsampler_steps,
                prior_candidates=model.prior.candidates,
                preview_interval=0,
            ),
            default_similarity=model.decoder.similarity,
            licences=[
                pb.Licence(subject=x.subject, identifier=x.identifier, source=x.source)
                for x in model.licences
            ],
        )


def to_picture(made: Made, model: Model) -> pb.Picture:
    """A finished picture as PNG, with what it takes to make it again."""
    times = []
    for stage, seconds in made.seconds.items():
        duration = duration_pb2.Duration()
        duration.FromNanoseconds(int(seconds * 1e9))
        times.append(pb.StageTime(stage=STAGES[stage], duration=duration))
    height, width = made.pixels.shape[:2]
    return pb.Picture(
        png=encode_png(made.pixels),
        width=width,
        height=height,
        seed=made.seed,
        model_version=model.version,
        stage_times=times,
    )


def to_response(index: int, event: Event, request_id: str, model: Model) -> pb.StreamResponse:
    """An event of picture ``index`` as a stream message."""
    response = pb.StreamResponse(picture_index=index, request_id=request_id)
    if isinstance(event, Queued):
        response.queued.CopyFrom(pb.Queued(stage=STAGES[event.stage], position=event.position))
    elif isinstance(event, Progressed):
        response.progress.CopyFrom(pb.Progress(stage=STAGES[event.stage], step=event.step, steps=event.steps))
    elif isinstance(event, Previewed):
        height, width = event.pixels.shape[:2]
        response.preview.CopyFrom(pb.Preview(png=encode_png(event.pixels), width=width, height=height))
    else:
        response.picture.CopyFrom(to_picture(event, model))
    return response
