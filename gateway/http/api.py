"""What the paths of the Images API do."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.responses import PlainTextResponse

from gateway.http import messages, schema
from gateway.http.answers import Answers, missing
from gateway.http.door import Visit, visit_of
from gateway.http.errors import HttpError
from gateway.http.forms import BODIES, read_form, read_json
from gateway.http.store import NAME, Store, expired
from gateway.images import Images
from gateway.models import Models
from gateway.replays import Replays
from gateway.shared_answers import HEADER
from gateway.threads import in_thread
from services.wire.errors import InvalidInput
from services.wire.models import ALIAS
from unclip.v1 import image_service_pb2 as pb

PICTURE_URL = re.compile(r"data:image/(png|jpeg|webp);base64,(.*)", re.ASCII | re.DOTALL)


class ImagesApi:
    """The handlers of the paths."""

    def __init__(self, models: Models, store: Store, replays: Replays) -> None:
        self._models = models
        self._store = store
        self._replays = replays
        self._public_url = models.settings.http_url.rstrip("/")

    async def generate(self, request: Request) -> Any:
        """Draw pictures of a sentence."""
        body = await read_json(request, schema.Generation)
        message = messages.generation(body, self._admitted(request, body))
        return await self._pictures(request, message, body, "image_generation")

    async def edit(self, request: Request) -> Any:
        """Paint into the hole of a picture, or extend it."""
        files = await read_form(request, "image", "mask")
        body = files.body(schema.Edit)
        request_id = self._admitted(request, body)
        message = messages.edit(body, files.file("image"), files.optional("mask"), request_id)
        return await self._pictures(request, message, body, "image_edit")

    async def vary(self, request: Request) -> Any:
        """Draw pictures like the given one."""
        files = await read_form(request, "image")
        body = files.body(schema.Variation)
        request_id = self._admitted(request, body)
        message = messages.variation(body, files.file("image"), request_id)
        return await self._pictures(request, message, body, "image_generation")

    async def mix(self, request: Request) -> Any:
        """Draw pictures of what pictures and prompts have in common."""
        body = await read_json(request, schema.MixBody)
        message = await in_thread(messages.mix, body, self._admitted(request, body), pool=BODIES)
        return await self._pictures(request, message, body, "image_generation")

    async def interpolate(self, request: Request) -> Any:
        """Draw the way from one picture or prompt to another."""
        body = await read_json(request, schema.Interpolation)
        request_id = self._admitted(request, body)
        message = await in_thread(messages.interpolation, body, request_id, pool=BODIES)
        return await self._pictures(request, message, body, "image_generation")

    async def rank(self, request: Request) -> schema.Ranking:
        """Order captions by how well they fit a picture."""
        files = await read_form(request, "image")
        captions = files.fields.pop("captions", [])
        images = self._named(files.fields.pop("model", None))
        files.body(schema.Body)
        visit = visit_of(request)
        message = pb.RankCaptionsRequest(
            picture=files.file("image"), captions=captions, request_id=visit.request_id
        )
        answer = await images.rank(message, visit.call.time_left())
        ranked = [
            schema.RankedCaption(caption=c.caption, index=c.index, probability=c.probability)
            for c in answer.captions
        ]
        return schema.Ranking(data=ranked)

    async def embed(self, request: Request) -> schema.EmbeddingList:
        """Embed texts and pictures."""
        body = await read_json(request, schema.Embeddings)
        images = self._named(body.model)
        visit = visit_of(request)
        inputs = [body.input] if isinstance(body.input, str) else body.input
        data = []
        for index, given in enumerate(inputs):
            values = await _embedded(images, given, f"input[{index}]", visit)
            coded: list[float] | str = values
            if body.encoding_format == "base64":
                coded = base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()
            data.append(schema.Embedding(index=index, embedding=coded))
        return schema.EmbeddingList(data=data, model=images.name)

    async def live(self) -> Response:
        """The process answers."""
        return PlainTextResponse("ok")

    async def ready(self) -> Response:
        """Requests can be answered, as far as this process goes."""
        return PlainTextResponse("ok") if self._models.ready else PlainTextResponse("no model yet", 503)

    async def models(self) -> schema.ModelList:
        """What is served."""
        served = await self._models.list()
        cards = [_card(facts.name, facts) for facts in served.models]
        aliased = [_card(ALIAS, facts) for facts in served.models if facts.name == served.default_model]
        return schema.ModelList(data=cards + aliased)

    async def model(self, model_id: str) -> schema.ModelCard:
        """One model."""
        if not model_id:
            raise missing("/v1/models/")
        return _card(model_id, await self._named(model_id).facts())

    async def file(self, name: str) -> Response:
        """A picture that an answer named by URL."""
        data = None if not NAME.fullmatch(name) or expired(name) else await self._store.get(name)
        if data is None:
            raise HttpError(404, "the file is not here; URLs are valid for an hour", name="not_found")
        headers = {"cache-control": "private, max-age=3600, immutable", "x-content-type-options": "nosniff"}
        return Response(data, media_type=f"image/{name.rpartition('.')[2]}", headers=headers)

    def _admitted(self, request: Request, body: schema.Common) -> str:
        """Check what all requests for pictures have; returns the request's id."""
        visit = visit_of(request)
        if body.user:
            visit.call.note(user=hashlib.sha256(body.user.encode()).hexdigest()[:16])
        self._named(body.model)
        return visit.request_id

    def _named(self, asked: str | None) -> Images:
        return self._models.of(messages.named_model(asked, self._models.names))

    async def _pictures(self, request: Request, message: Any, body: schema.Streamed, kind: Any) -> Any:
        visit = visit_of(request)
        images = self._named(body.model)
        answers = Answers(images, self._store)
        images.require_allowed(message)  # also of one who would be given another's answer
        if body.stream:
            visit.forget_read_timeout()
            return await answers.streamed(message, body, visit, kind)
        address = self._public_url or f"{request.url.scheme}://{request.url.netloc}"

        async def work() -> bytes:
            answer = await answers.whole(message, body, visit, address)
            text = await in_thread(lambda: answer.model_dump_json(exclude_none=True))
            return text.encode()

        key = request.headers.get(HEADER)
        if not key:
            return Response(await work(), media_type="application/json")
        assert visit.call.caller is not None
        fingerprint = await in_thread(_fingerprint, request.url.path, message, body)
        answer = await self._replays.answer(key, visit.call.caller.tenant, fingerprint, work)
        return Response(answer, media_type="application/json")


async def _embedded(images: Images, given: str, param: str, visit: Visit) -> list[float]:
    """The embedding of a text, or of the picture of a data URL."""
    found = PICTURE_URL.fullmatch(given)
    time_left = visit.call.time_left()
    try:
        if found is None:
            text = pb.EmbedTextRequest(text=given, request_id=visit.request_id)
            return list((await images.embed_text(text, time_left)).embedding)
        picture = await in_thread(messages.decoded, found[2], param, pool=BODIES)
        message = pb.EmbedImageRequest(picture=picture, request_id=visit.request_id)
        return list((await images.embed_image(message, time_left)).embedding)
    except InvalidInput as error:
        raise InvalidInput(*((param, said) for _, said in error.violations)) from None


def _fingerprint(path: str, message: Any, body: schema.Common) -> bytes:
    """What makes a request the same as another: all that was read of it. A form's boundary is drawn anew."""
    read = type(message)()
    read.CopyFrom(message)
    read.ClearField("request_id")
    parts = (path.encode(), read.SerializeToString(deterministic=True), body.model_dump_json().encode())
    return hashlib.sha256(b"\n".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _card(name: str, facts: pb.GetModelResponse) -> schema.ModelCard:
    limits = facts.limits
    described = schema.ModelFacts(
        version=facts.version,
        sizes=list(facts.sizes),
        default_size=facts.default_size,
        shape_multiple=facts.shape_multiple,
        default_similarity=facts.default_similarity,
        default_steps=facts.defaults.decoder_steps,
        default_guidance=facts.defaults.decoder_guidance,
        max_n=limits.max_n,
        max_prompt_characters=limits.max_prompt_characters,
        max_steps=limits.max_steps,
        max_guidance=limits.max_guidance,
        max_captions=limits.max_captions,
        max_picture_bytes=limits.max_picture_bytes,
        max_picture_pixels=limits.max_picture_pixels,
        max_result_pixels=limits.max_result_pixels,
        max_aspect_ratio=limits.max_aspect_ratio,
        max_frames=limits.max_frames,
    )
    return schema.ModelCard(id=name, created=0, owned_by="unclip", unclip=described)
