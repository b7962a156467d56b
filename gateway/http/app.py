"""The Images API's application: its paths, and what they answer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any, cast

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from gateway.http import messages, replays, schema
from gateway.http.answers import Answers, missing
from gateway.http.door import visit_of
from gateway.http.errors import HttpError, told_of
from gateway.http.forms import Files, invalid
from gateway.http.openapi import EVENTS, describe, form_of
from gateway.http.replays import Replays
from gateway.http.store import NAME, Store, expired
from gateway.images import Images
from services.wire.errors import InvalidInput, ServiceError
from unclip.v1 import image_service_pb2 as pb

PICTURE_URL = re.compile(r"data:image/(png|jpeg|webp);base64,(.*)", re.ASCII | re.DOTALL)


class ImagesApi:
    """The handlers of the paths."""

    def __init__(self, images: Images, store: Store, public_url: str) -> None:
        self._images = images
        self._answers = Answers(images, store)
        self._store = store
        self._replays = Replays()
        self._public_url = public_url.rstrip("/")

    async def generate(self, request: Request, body: schema.Generation) -> Any:
        """Draw pictures of a sentence."""
        message = messages.generation(body, await self._admitted(request, body))
        return await self._pictures(request, message, body, "image_generation")

    async def edit(self, request: Request) -> Any:
        """Paint into the hole of a picture, or extend it."""
        files = await Files.read(request, "image", "mask")
        body = files.body(schema.Edit)
        request_id = await self._admitted(request, body)
        message = messages.edit(body, files.file("image"), files.optional("mask"), request_id)
        return await self._pictures(request, message, body, "image_edit")

    async def vary(self, request: Request) -> Any:
        """Draw pictures like the given one."""
        files = await Files.read(request, "image")
        body = files.body(schema.Variation)
        request_id = await self._admitted(request, body)
        message = messages.variation(body, files.file("image"), request_id)
        return await self._pictures(request, message, body, "image_generation")

    async def mix(self, request: Request, body: schema.MixBody) -> Any:
        """Draw pictures of what pictures and prompts have in common."""
        message = messages.mix(body, await self._admitted(request, body))
        return await self._pictures(request, message, body, "image_generation")

    async def interpolate(self, request: Request, body: schema.Interpolation) -> Any:
        """Draw the way from one picture or prompt to another."""
        message = messages.interpolation(body, await self._admitted(request, body))
        return await self._pictures(request, message, body, "image_generation")

    async def rank(self, request: Request) -> schema.Ranking:
        """Order captions by how well they fit a picture."""
        files = await Files.read(request, "image")
        captions = files.fields.pop("captions", [])
        await self._require_model(files.fields.pop("model", None))
        files.body(schema.Body)
        visit = visit_of(request)
        message = pb.RankCaptionsRequest(
            picture=files.file("image"), captions=captions, request_id=visit.request_id
        )
        answer = await self._images.rank(message, visit.call.time_left())
        ranked = [
            schema.RankedCaption(caption=c.caption, index=c.index, probability=c.probability)
            for c in answer.captions
        ]
        return schema.Ranking(data=ranked)

    async def embed(self, request: Request, body: schema.Embeddings) -> schema.EmbeddingList:
        """Embed texts and pictures."""
        name = await self._require_model(body.model)
        visit = visit_of(request)
        inputs = [body.input] if isinstance(body.input, str) else body.input
        data = []
        for index, given in enumerate(inputs):
            values = await self._embedded(given, f"input[{index}]", visit.request_id, visit.call.time_left())
            coded: list[float] | str = values
            if body.encoding_format == "base64":
                coded = base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()
            data.append(schema.Embedding(index=index, embedding=coded))
        return schema.EmbeddingList(data=data, model=name)

    async def models(self) -> schema.ModelList:
        """What is served."""
        name = await self._require_model(None)
        return schema.ModelList(data=[_card(name), _card(messages.ALIAS)])

    async def model(self, model_id: str) -> schema.ModelCard:
        """One model."""
        await self._require_model(model_id)
        return _card(model_id)

    async def file(self, name: str) -> Response:
        """A picture that an answer named by URL."""
        data = None if not NAME.fullmatch(name) or expired(name) else await self._store.get(name)
        if data is None:
            raise HttpError(404, "the file is not here; URLs are valid for an hour", name="not_found")
        headers = {"cache-control": "private, max-age=3600, immutable", "x-content-type-options": "nosniff"}
        return Response(data, media_type=f"image/{name.rpartition('.')[2]}", headers=headers)

    async def _embedded(
        self, given: str, param: str, request_id: str, time_left: float | None
    ) -> list[float]:
        found = PICTURE_URL.fullmatch(given)
        if found is None:
            text = pb.EmbedTextRequest(text=given, request_id=request_id)
            return list((await self._images.embed_text(text, time_left)).embedding)
        try:
            picture = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            raise InvalidInput((param, "is no base64")) from None
        message = pb.EmbedImageRequest(picture=picture, request_id=request_id)
        return list((await self._images.embed_image(message, time_left)).embedding)

    async def _admitted(self, request: Request, body: schema.Common) -> str:
        """Check what all requests for pictures have; returns the request's id."""
        visit = visit_of(request)
        if body.user:
            visit.call.note(user=hashlib.sha256(body.user.encode()).hexdigest()[:16])
        await self._require_model(body.model)
        return visit.request_id

    async def _require_model(self, asked: str | None) -> str:
        served = (await self._images.model()).name
        messages.check_model(asked, served)
        return served

    async def _pictures(self, request: Request, message: Any, body: schema.Common, kind: Any) -> Any:
        visit = visit_of(request)
        if isinstance(body, schema.Streamed) and body.stream:
            events = await self._answers.streamed(message, body, visit, kind)
            return StreamingResponse(
                events, media_type="text/event-stream", headers={"cache-control": "no-store"}
            )
        address = self._public_url or f"{request.url.scheme}://{request.url.netloc}"

        async def work() -> bytes:
            answer = await self._answers.whole(message, body, visit, address)
            return answer.model_dump_json(exclude_none=True).encode()

        key = request.headers.get(replays.HEADER)
        answer = await (self._replays.answer(key, _fingerprint(message, body), work) if key else work())
        return Response(answer, media_type="application/json")


def build_app(images: Images, store: Store, public_url: str) -> FastAPI:
    """The application, without the door before it."""
    api = ImagesApi(images, store, public_url)
    app = FastAPI(title="unclip Images API", version="1", redoc_url=None)
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": schema.Error} for status in (400, 401, 404, 413, 429, 500, 503, 504)
    }
    pictures: dict[str, Any] = {"response_model": schema.Images, "responses": errors}
    streamed: dict[str, Any] = {**pictures, "responses": {**errors, 200: {"content": EVENTS}}}
    edit_form = form_of(schema.Edit, files={"image": True, "mask": False})
    vary_form = form_of(schema.Variation, files={"image": True})
    rank_form = form_of(None, files={"image": True})
    app.post("/v1/images/generations", **streamed)(api.generate)
    app.post("/v1/images/edits", **streamed, openapi_extra=edit_form)(api.edit)
    app.post("/v1/images/variations", **pictures, openapi_extra=vary_form)(api.vary)
    app.post("/v1/images/mix", **pictures)(api.mix)
    app.post("/v1/images/interpolations", **pictures)(api.interpolate)
    app.post("/v1/images/rank", responses=errors, openapi_extra=rank_form)(api.rank)
    app.post("/v1/embeddings", responses=errors)(api.embed)
    app.get("/v1/models", responses=errors)(api.models)
    app.get("/v1/models/{model_id:path}", responses=errors)(api.model)
    app.get("/files/{name}", responses=errors, response_class=Response)(api.file)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(ServiceError, _told)
    app.add_exception_handler(HTTPException, _not_found)
    describe(app, schema.Edit, schema.Variation)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """An error of ours, in OpenAI's shape."""
    if "visit" in request.scope.get("state", {}):
        visit_of(request).fail(error)
    return told_of(error).response()


async def _not_valid(request: Request, error: Exception) -> Response:
    return await _told(request, invalid(cast(RequestValidationError, error).errors()))


async def _not_found(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    if status == 404:
        return await _told(request, missing(request.url.path))
    return await _told(request, HttpError(status, str(cast(HTTPException, error).detail)))


def _fingerprint(message: Any, body: schema.Common) -> bytes:
    """What makes a request the same as another: all but its id."""
    bare = type(message)()
    bare.CopyFrom(message)
    bare.request_id = ""
    return hashlib.sha256(bare.SerializeToString(deterministic=True) + repr(body).encode()).digest()


def _card(name: str) -> schema.ModelCard:
    return schema.ModelCard(id=name, created=0, owned_by="unclip")
