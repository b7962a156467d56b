"""The public ImageService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import grpc.aio

from gateway import convert
from gateway.events import Drawn, Previewed, Warned
from gateway.models import Models
from gateway.threads import in_thread
from gateway.validation import FlowMessage
from services.wire.errors import InvalidInput
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar(
    "Response",
    pb.GenerateResponse,
    pb.InpaintResponse,
    pb.OutpaintResponse,
    pb.VaryResponse,
    pb.MixResponse,
    pb.InterpolateResponse,
)


KINDS = tuple(field.name for field in pb.StreamRequest.DESCRIPTOR.oneofs_by_name["request"].fields)


class ImageServicer(pb_grpc.ImageServiceServicer):
    """What its methods raise becomes a status in the chain."""

    def __init__(self, models: Models) -> None:
        self._models = models

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

    async def Mix(self, request: pb.MixRequest, context: Context) -> pb.MixResponse:
        """Draw pictures of what several pictures and prompts have in common."""
        return await self._pictures(request, context, pb.MixResponse())

    async def Interpolate(self, request: pb.InterpolateRequest, context: Context) -> pb.InterpolateResponse:
        """Draw the way from one picture or prompt to another."""
        return await self._pictures(request, context, pb.InterpolateResponse())

    async def Stream(self, request: pb.StreamRequest, context: Context) -> AsyncIterator[pb.StreamResponse]:
        """Any of the flows that draw, with what happens on the way."""
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidInput(("request", f"is empty; it must be one of {', '.join(KINDS)}"))
        drawing = getattr(request, kind)
        images = self._models.of(drawing.model)
        flow, model = await images.checked(drawing)
        signer = images.signer
        events = images.events(flow, context.time_remaining(), request.ByteSize())
        async with aclosing(events):
            async for index, event in events:
                if isinstance(event, Drawn | Previewed):  # which have files to be made
                    response = await in_thread(convert.to_response, index, event, flow, model, signer)
                else:
                    response = convert.to_response(index, event, flow, model, signer)
                if response is not None:
                    yield response

    async def RankCaptions(
        self, request: pb.RankCaptionsRequest, context: Context
    ) -> pb.RankCaptionsResponse:
        """Order captions by how well they fit a picture."""
        return await self._models.of(request.model).rank(request, context.time_remaining())

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        """Embed a text."""
        return await self._models.of(request.model).embed_text(request, context.time_remaining())

    async def EmbedImage(self, request: pb.EmbedImageRequest, context: Context) -> pb.EmbedImageResponse:
        """Embed a picture."""
        return await self._models.of(request.model).embed_image(request, context.time_remaining())

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Describe a model, its limits and defaults."""
        return await self._models.of(request.model).model()

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Say what is served."""
        return await self._models.list()

    async def _pictures(self, request: FlowMessage, context: Context, response: Response) -> Response:
        """Check and run a flow, and fill the response with its pictures."""
        images = self._models.of(request.model)
        flow, model = await images.checked(request)
        flow = replace(flow, options=replace(flow.options, preview_interval=0))  # nobody would see them
        pictures: dict[int, pb.Picture] = {}
        events = images.events(flow, context.time_remaining(), request.ByteSize())
        async with aclosing(events):
            async for index, event in events:
                if isinstance(event, Drawn):
                    pictures[index] = await in_thread(convert.to_picture, event, flow, model, images.signer)
                elif isinstance(event, Warned):
                    response.warnings.append(convert.to_warning(event))
        response.pictures.extend(pictures[index] for index in sorted(pictures))
        response.request_id = flow.request_id
        return response
