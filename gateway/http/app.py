"""The Images API's application: its paths, and its errors."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from gateway.http import schema
from gateway.http.answers import missing
from gateway.http.api import ImagesApi
from gateway.http.door import visit_of
from gateway.http.errors import HttpError, told_of
from gateway.http.labs import add_page
from gateway.http.openapi import EVENTS, describe, form_of, json_of
from gateway.http.store import Store
from gateway.models import Models
from gateway.replays import Replays
from services.wire.errors import ServiceError


def build_app(models: Models, store: Store, replays: Replays) -> FastAPI:
    """The application, without the door before it."""
    api = ImagesApi(models, store, replays)
    # Spans are the calls' own, and its own would tell the secret names of files.
    quiet: Any = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPIOffline(
        title="unclip Images API", version="1", redoc_url=None, redirect_slashes=False, telemetry=quiet
    )
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": schema.Error} for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)
    }
    streamed: dict[str, Any] = {
        "response_model": schema.Images,
        "responses": {**errors, 200: {"content": EVENTS}},
    }
    edit_form = form_of(schema.Edit, files={"image": True, "mask": False})
    vary_form = form_of(schema.Variation, files={"image": True})
    rank_form = form_of(None, files={"image": True})
    app.post("/v1/images/generations", **streamed, openapi_extra=json_of(schema.Generation))(api.generate)
    app.post("/v1/images/edits", **streamed, openapi_extra=edit_form)(api.edit)
    app.post("/v1/images/variations", **streamed, openapi_extra=vary_form)(api.vary)
    app.post("/v1/images/mix", **streamed, openapi_extra=json_of(schema.MixBody))(api.mix)
    way = json_of(schema.Interpolation)
    app.post("/v1/images/interpolations", **streamed, openapi_extra=way)(api.interpolate)
    app.post("/v1/images/rank", responses=errors, openapi_extra=rank_form)(api.rank)
    app.post("/v1/embeddings", responses=errors, openapi_extra=json_of(schema.Embeddings))(api.embed)
    app.get("/v1/models", responses=errors)(api.models)
    app.get("/v1/models/{model_id:path}", responses=errors)(api.model)
    app.get("/files/{name}", responses=errors, response_class=Response)(api.file)
    app.get("/livez", include_in_schema=False)(api.live)
    app.get("/readyz", include_in_schema=False)(api.ready)
    add_page(app)
    app.add_exception_handler(ServiceError, _told)
    app.add_exception_handler(Exception, _told)
    app.add_exception_handler(HTTPException, _not_found)
    bodies = (schema.Generation, schema.MixBody, schema.Interpolation, schema.Embeddings)
    describe(app, schema.Edit, schema.Variation, *bodies)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """An error of ours, in OpenAI's shape."""
    if "visit" in request.scope.get("state", {}):
        visit_of(request).fail(error)
    return told_of(error).response()


async def _not_found(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    if status == 404:
        return await _told(request, missing(request.url.path))
    return await _told(request, HttpError(status, str(cast(HTTPException, error).detail)))
