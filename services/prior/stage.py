"""The prior stage: requests from the wire to rows of the engine, and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import torch

from services.bundles.bundle import Bundle
from services.engine import Event, Queued, StepEngine
from services.prior.sampler import PART, PriorConditioning, PriorRow, PriorSampler, Text
from services.prior.settings import MAX_CANDIDATES, Settings
from services.serving import servicing
from services.serving.autoscaling import recorded
from services.serving.metrics import EngineMetrics
from services.wire.conditioning import check_task, text_arrays
from services.wire.errors import InvalidInput
from services.wire.tensors import to_message
from unclip.internal.v1 import prior_service_pb2, sampling_pb2, stage_service_pb2, text_encoder_service_pb2


class PriorStage:
    """One replica's prior: its network and its engine."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._settings, self.bundle = settings, Bundle(settings.bundle, PART)
        self._sampler = PriorSampler(self.bundle, call_size=settings.call_size)
        self._engine: StepEngine[PriorRow] = StepEngine(
            self._sampler.advance, settings.engine.limits, EngineMetrics(settings.engine.limits)
        )

    async def sample(
        self, request: prior_service_pb2.SamplePriorRequest
    ) -> AsyncGenerator[prior_service_pb2.SamplePriorResponse, None]:
        """Draw candidates and keep the best."""
        rows = self._rows(request)
        events = self._engine.run(rows, deadline=servicing.deadline_of(request.task))
        try:
            async for event in events:
                yield _to_response(event)
        finally:
            await events.aclose()
        embedding, cosine = self._sampler.best(rows)
        result = prior_service_pb2.PriorResult(embedding=to_message(embedding.cpu().numpy()), cosine=cosine)
        yield prior_service_pb2.SamplePriorResponse(result=result)

    def _rows(self, request: prior_service_pb2.SamplePriorRequest) -> list[PriorRow]:
        task = request.task
        check_task(task)
        if not 1 <= request.candidates <= MAX_CANDIDATES:
            raise InvalidInput("candidates", f"must be from 1 to {MAX_CANDIDATES}")
        conditioning = PriorConditioning(
            self._text(request.text, "text"), self._text(request.unconditional, "unconditional")
        )
        return [
            self._sampler.start(
                conditioning, seed=task.seed, candidate=i, steps=task.steps, guidance=task.guidance
            )
            for i in range(request.candidates)
        ]

    def _text(self, message: text_encoder_service_pb2.TextConditioning, field: str) -> Text:
        dim = self._sampler.config.embedding_dim
        arrays = text_arrays(message, field, dim, dim, self._sampler.config.text_tokens)
        return Text(*(torch.from_numpy(a.copy()).to(self._sampler.device) for a in arrays))

    def autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy works with."""
        return recorded(self._engine.load, self._settings.engine.limits)

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        response, sampling = servicing.describe(self.bundle), self._sampler.config.diffusion.sampling
        response.defaults.steps, response.defaults.guidance = sampling.steps, sampling.guidance
        response.defaults.candidates = self._settings.candidates
        response.load.CopyFrom(servicing.load_message(self._engine.load))
        return response


def _to_response(event: Event) -> prior_service_pb2.SamplePriorResponse:
    if isinstance(event, Queued):
        return prior_service_pb2.SamplePriorResponse(queued=sampling_pb2.TaskQueued(position=event.position))
    return prior_service_pb2.SamplePriorResponse(
        progress=sampling_pb2.TaskProgress(step=event.step, steps=event.steps)
    )
