"""The OpenAPI document: forms with files, and no answer that is never given."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"
FILE = {"type": "string", "format": "binary"}
# An answer that is streamed. The last event has no name, and [DONE] as its data.
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
EVENTS = {"text/event-stream": {"schema": EVENT}}


def form_of(fields: type[BaseModel] | None, files: dict[str, bool]) -> dict[str, Any]:
    """The body of a call whose form has these fields and files. files: whether each has to be there."""
    described = fields.model_json_schema(ref_template=REFERENCE) if fields else {}
    described.pop("$defs", None)  # which ``describe`` puts where forms refer to
    properties = dict.fromkeys(files, FILE) | described.get("properties", {})
    if fields is None:
        properties["captions"] = {"type": "array", "items": {"type": "string"}, "minItems": 2}
        properties["model"] = {"type": "string"}
    required = [name for name, needed in files.items() if needed] + described.get("required", [])
    required += [] if fields else ["captions"]
    form = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def json_of(body: type[BaseModel]) -> dict[str, Any]:
    """The body of a call that is JSON."""
    described = body.model_json_schema(ref_template=REFERENCE)
    described.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": described}}}}


def describe(app: FastAPI, *forms: type[BaseModel]) -> None:
    """Have the app tell its document, in which what is not valid is answered with 400 and never with 422.

    forms: the fields of its forms.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                made["components"]["schemas"].pop(name, None)
            for form in forms:
                made["components"]["schemas"] |= form.model_json_schema(ref_template=REFERENCE).get(
                    "$defs", {}
                )
            made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{}, {"token": []}]  # a service asks for one, or does not
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
