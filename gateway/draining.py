"""Health watches and reflection streams would last for ever. They end when the gateway stops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from gateway.interceptors import SERVICE, Details


class Draining(grpc.aio.ServerInterceptor):
    """Ends the streams of all services but the public one once ``stop`` was called."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End them now."""
        self._stopping.set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        """Wrap a method that answers with a stream."""
        handler = await continuation(handler_call_details)
        if (
            handler is None
            or handler_call_details.method.startswith(SERVICE)
            or not handler.response_streaming
        ):
            return handler
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        wrapped = self._iterated(method) if inspect.isasyncgenfunction(method) else self._awaited(method)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _awaited(self, method: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        """A method that writes its messages itself."""

        async def answer(request: Any, context: Any) -> None:
            await self._or_stopped(method(request, context))

        return answer

    def _iterated(self, method: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
        """A method that yields its messages."""

        async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
            messages = method(request, context)
            while (message := await self._or_stopped(anext(messages, None))) is not None:
                yield message

        return answer

    async def _or_stopped(self, work: Awaitable[Any]) -> Any:
        """What the work returns; None once the gateway stops."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopped.cancel()
