"""Bytes that are no message: answered as bad input, where gRPC itself would say UNKNOWN with Python's words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from services.wire.errors import InvalidInput

T = TypeVar("T")
_MALFORMED = object()


def well_formed(request: T) -> T:
    """The request, if it could be read. Raises InvalidInput for one that ``MalformedRequests`` has marked."""
    if request is _MALFORMED:
        raise InvalidInput("request", "is not a valid message of its type (text must be UTF-8)")
    return request


class MalformedRequests(grpc.aio.ServerInterceptor):
    """Marks requests that cannot be read, so that the method answers them."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Wrap the method's deserialiser."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        read = handler.request_deserializer

        def read_or_mark(data: bytes) -> Any:
            try:
                return read(data)
            except (DecodeError, UnicodeDecodeError):
                return _MALFORMED

        return handler._replace(request_deserializer=read_or_mark)
