"""Errors in the shape that OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.rpc import code_pb2
from starlette.responses import JSONResponse

from gateway.content import ContentRefused
from services.wire.errors import InvalidInput, Overloaded, ServiceError

# What fields of the contract are called here.
PARAMS = {
    "picture": "image",
    "margins": "outpaint",
    "shape": "size",
    "text": "input",
    "output.format": "output_format",
    "output.quality": "output_compression",
    "options.decoder_steps": "steps",
    "options.decoder_guidance": "guidance",
}
STATUSES: dict[int, int] = {
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DEADLINE_EXCEEDED: 504,
}
KINDS: dict[int, code_pb2.Code.ValueType] = {404: code_pb2.NOT_FOUND, 405: code_pb2.UNIMPLEMENTED}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
# OpenAI's clients would ask twice again, for what takes as long or fails as before.
NO_RETRY = {"x-should-retry": "false"}
CODES = {
    401: "invalid_api_key",
    403: "permission_denied",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "service_unavailable",
    504: "timeout",
}


class HttpError(ServiceError):
    """An error that only HTTP has: a model, a path or a file that is not there, a body that is too long."""

    def __init__(self, status: int, message: str, param: str | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.name = name  # OpenAI's ``code``
        self.code = KINDS.get(status, code_pb2.INVALID_ARGUMENT)


@dataclass(frozen=True)
class Told:
    """What a caller is told of an error."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """As JSON."""
        kind = TYPES.get(self.status, "server_error")
        code = self.code or CODES.get(self.status)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": code}}

    @property
    def event(self) -> bytes:
        """As the last event of a stream that has begun."""
        return event_of("error", self.body)

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, self.headers)


def event_of(kind: str, data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def told_of(error: Exception) -> Told:
    """What a caller is told of this error; of one that was not foreseen, nothing but that."""
    if isinstance(error, HttpError):
        return Told(error.status, str(error), error.param, error.name)
    if not isinstance(error, ServiceError):
        return Told(500, "an error in the service; it has been logged", headers=NO_RETRY)
    status = STATUSES.get(error.code, 500)
    if isinstance(error, InvalidInput):
        params = [param_of(name) for name, _ in error.violations]
        message = "; ".join(
            f"{param}: {text}" for param, (_, text) in zip(params, error.violations[:4], strict=False)
        )
        refused = isinstance(error, ContentRefused)
        return Told(status, message, params[0], "content_policy_violation" if refused else None)
    headers = NO_RETRY if status in (500, 504) else {}
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    if status == 503:
        headers = {"retry-after": "1"}
    if isinstance(error, Overloaded):
        headers = {
            "retry-after": str(math.ceil(error.retry_after)),
            "retry-after-ms": str(math.ceil(1000 * error.retry_after)),
        }
    return Told(status, str(error), headers=headers)


def param_of(name: str) -> str:
    """What a field of the contract is called here."""
    if name.endswith(".picture"):
        return f"{name.removesuffix('.picture')}.image"
    return PARAMS.get(name, name.removeprefix("options."))
