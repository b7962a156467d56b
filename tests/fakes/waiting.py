"""A decoder that only waits, as a Ray Serve application: the real engine and servicer, without a network."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve import Application

from services.engine import CallSizes, EngineLimits, Finished, Segment, StepEngine
from services.engine.jobs import Plan
from services.serving import servicing
from services.serving.engine import load_message
from unclip.internal.v1 import decoder_service_pb2, stage_service_pb2

LIMITS = EngineLimits(8, 256)
Response = decoder_service_pb2.SampleDecoderResponse


@dataclass(frozen=True)
class Wait:
    """A picture that takes so many steps."""

    steps: int

    @property
    def plans(self) -> Sequence[Plan]:
        return [[Segment("64", self.steps)]]

    def start(self) -> Sequence[object]:
        return [object()]

    def preview(self) -> None:
        return None

    def finish(self) -> None:
        return None


@serve.deployment(name="Decoder")
class Waiting:
    """Answers ``DecoderService`` and ``StageService``; a step of one row takes ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._engine: StepEngine[object] = StepEngine(lambda rows: time.sleep(seconds), LIMITS, CallSizes(1))

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(
        self, request: stage_service_pb2.DescribeRequest
    ) -> stage_service_pb2.DescribeResponse:
        return stage_service_pb2.DescribeResponse()

    @servicing.streaming(Response)
    async def SampleDecoder(
        self, request: decoder_service_pb2.SampleDecoderRequest
    ) -> AsyncGenerator[Response, None]:
        replica = str(serve.get_replica_context().replica_id.unique_id)
        async with aclosing(self._engine.run(Wait(request.task.steps))) as events:
            async for event in events:
                load = load_message(self._engine.load, LIMITS, replica, int)
                response = Response(load=load)
                if isinstance(event, Finished):
                    response.result.SetInParent()
                yield response


def build(args: dict[str, Any]) -> Application:
    """The application, from the ``args`` of its Serve config."""
    application: Application = Waiting.options(**args["deployment"]).bind(args["seconds"])  # type: ignore[attr-defined]
    return application
