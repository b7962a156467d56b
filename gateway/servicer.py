"""The public ImageService: check the request, run its flow, tell what comes of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import grpc.aio

from gateway import convert, interceptors
from gateway.admission import Admission
from gateway.events import Drawn, Indexed, Previewed, Warned, text_cut
from gateway.flows.flow import Flow, decode
from gateway.flows.rank import rank_captions
from gateway.readiness import Model, StageWatch
from gateway.settings import Settings, held_bytes
from gateway.stages import Stages
from gateway.stages.budget import Budget, Priority
from gateway.stages.text_encoder import normalised
from gateway.threads import HEADERS, in_thread
from gateway.validation import Checks, FlowChecks, FlowMessage
from services.editing.pictures import Header, Pixels, flattened, rgb
from services.wire.errors import InvalidInput
from services.wire.stages import StageName
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response", pb.GenerateResponse, pb.InpaintResponse, pb.OutpaintResponse, pb.VaryResponse)


class ImageServicer(pb_grpc.ImageServiceServicer):
    """Every method checks all of its request before any stage works.

    What it raises becomes a status in the chain.
    """

    def __init__(self, settings: Settings, stages: Stages, watch: StageWatch, admission: Admission) -> None:
        self._settings = settings
        self._stages = stages
        self._watch = watch
        self._admission = admission

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Draw pictures of a sentence."""
        return await self._pictures(request, context, pb.GenerateResponse())

    async def Inpaint(self, request: pb.InpaintRequest, context: Context) -> pb.InpaintResponse:
        """Paint into the hole of a picture."""
        return await self._pictures(request, context, pb.InpaintResponse())

    async def Outpaint(self, request: pb.OutpaintRequest, context: Context) -> pb.OutpaintResponse:
        """Extend a picture past its borders."""
        return await self._pictures(request, context, pb.OutpaintResponse())

    async def Vary(self, request: pb.VaryRequest, context: Context) -> pb.VaryResponse:
        """Draw pictures like the given one."""
        return await self._pictures(request, context, pb.VaryResponse())

    async def Stream(self, request: pb.StreamRequest, context: Context) -> AsyncIterator[pb.StreamResponse]:
        """Any of the four flows, with what happens on the way."""
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidInput(("request", "is empty; it must be one of generate, inpaint, outpaint or vary"))
        flow, model = await self._checked(getattr(request, kind))
        async with aclosing(self._events(flow, context, 2 * request.ByteSize())) as events:
            async for index, event in events:
                if isinstance(event, Drawn | Previewed):  # which have files to be made
                    response = await in_thread(convert.to_response, index, event, flow, model)
                else:
                    response = convert.to_response(index, event, flow, model)
                if response is not None:
                    yield response

    async def RankCaptions(
        self, request: pb.RankCaptionsRequest, context: Context
    ) -> pb.RankCaptionsResponse:
        """Order captions by how well they fit a picture."""
        checks = Checks(self._settings)
        most = self._settings.max_captions
        if not 2 <= len(request.captions) <= most:
            checks.problem("captions", f"has {len(request.captions)}; from 2 to {most} are allowed")
        else:
            for i, caption in enumerate(request.captions):
                checks.text(f"captions[{i}]", caption)
        header, request_id = await in_thread(
            self._picture, checks, request.picture, request.request_id, pool=HEADERS
        )
        budget = self._budget(context, request_id)
        with self._admission.holding(held_bytes(header.pixels, 0, 0), 2 * request.ByteSize()):
            pixels = await in_thread(_on_white, request.picture, header)
            ranked, cut = await rank_captions(pixels, list(request.captions), self._stages, budget)
        captions = [
            pb.RankedCaption(caption=r.caption, probability=r.probability, index=r.index) for r in ranked
        ]
        warnings = [convert.to_warning(event) for event in cut]
        return pb.RankCaptionsResponse(captions=captions, request_id=request_id, warnings=warnings)

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        """Embed a text."""
        checks = Checks(self._settings)
        checks.text("text", request.text)
        request_id = checks.request_id(request.request_id)
        checks.finish()
        texts = await self._stages.text_encoder.embed([request.text], self._budget(context, request_id))
        response = pb.EmbedTextResponse(embedding=texts.embeddings[0].tolist(), request_id=request_id)
        if word := texts.last_words_read[0]:
            response.warnings.append(convert.to_warning(text_cut("text", word)))
        return response

    async def EmbedImage(self, request: pb.EmbedImageRequest, context: Context) -> pb.EmbedImageResponse:
        """Embed a picture."""
        checks = Checks(self._settings)
        header, request_id = await in_thread(
            self._picture, checks, request.picture, request.request_id, pool=HEADERS
        )
        budget = self._budget(context, request_id)
        with self._admission.holding(held_bytes(header.pixels, 0, 0), 2 * request.ByteSize()):
            pixels = await in_thread(_on_white, request.picture, header)
            embedding = await self._stages.image_encoder.encode(pixels, budget)
        return pb.EmbedImageResponse(embedding=normalised(embedding).tolist(), request_id=request_id)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Say what is served, its limits and defaults."""
        return convert.to_model(await self._watch.model("prior"), self._settings)

    async def _pictures(self, request: FlowMessage, context: Context, response: Response) -> Response:
        """Check and run a flow, and fill the response with its pictures."""
        flow, model = await self._checked(request)
        flow = replace(flow, options=replace(flow.options, preview_interval=0))  # nobody would see them
        pictures: dict[int, pb.Picture] = {}
        async with aclosing(self._events(flow, context, 2 * request.ByteSize())) as events:
            async for index, event in events:
                if isinstance(event, Drawn):
                    pictures[index] = await in_thread(convert.to_picture, event, flow, model)
                elif isinstance(event, Warned):
                    response.warnings.append(convert.to_warning(event))
        response.pictures.extend(pictures[index] for index in sorted(pictures))
        response.request_id = flow.request_id
        return response

    async def _checked(self, request: FlowMessage) -> tuple[Flow, Model]:
        needed: tuple[StageName, ...] = () if isinstance(request, pb.VaryRequest) else ("prior",)
        model = await self._watch.model(*needed)
        checks = FlowChecks(self._settings, model)
        if isinstance(request, pb.GenerateRequest):  # without a file, whose header takes a while to check
            return checks.flow(request), model
        return await in_thread(checks.flow, request, pool=HEADERS), model

    async def _events(self, flow: Flow, context: Context, size: int) -> AsyncGenerator[Indexed, None]:
        """Run a flow that may start. Leaving early cancels its work.

        size: the bytes that its message holds.
        """
        budget = self._budget(context, flow.request_id, flow.options.priority)
        n = flow.options.n
        with self._admission.holding(flow.held_bytes, own=size):
            self._admission.check(flow.demands(), n, budget)
            flow = await flow.prepared()
            with self._admission.admitted(flow.demands(), n, budget) as ticket:
                async with aclosing(flow.run(self._stages, budget, ticket.observe)) as events:
                    async for item in events:
                        yield item

    def _budget(self, context: Context, request_id: str, priority: Priority = "interactive") -> Budget:
        interceptors.identify(request_id)
        left = context.time_remaining()
        most = self._settings.request_timeout
        is_deadline = left is not None and left < most
        return Budget(most if left is None else min(left, most), request_id, priority, is_deadline)

    @staticmethod
    def _picture(checks: Checks, data: bytes, request_id: str) -> tuple[Header, str]:
        """The checked header of a picture that is only looked at, and the request's id."""
        header = checks.picture("picture", data, reducible=True)
        identified = checks.request_id(request_id)
        checks.finish()
        assert header is not None
        return header, identified


def _on_white(data: bytes, header: Header) -> Pixels:
    """(H, W, 3) of a picture as it looks."""
    return rgb(flattened(decode(data, header, "picture")).convert("RGBA"))
