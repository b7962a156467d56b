"""The prior stage: requests from the wire to tasks of the engine, and its events back to the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import torch

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device
from services.diffusion.lanes import Lanes
from services.diffusion.schedule import spaced_timesteps
from services.engine import CallSizes, Event, Finished, Plan, Queued, StepEngine, Stepped, Watcher
from services.prior.sampler import PART, PriorRow, PriorSampler, Text
from services.prior.settings import MAX_CANDIDATES, Settings
from services.serving import describe
from services.serving.engine import deadline_of, load_message, priority_of
from services.wire.conditioning import TextArrays, check_task, text_arrays
from services.wire.errors import InvalidInput
from services.wire.tensors import to_message
from unclip.internal.v1 import prior_service_pb2, sampling_pb2, stage_service_pb2

Request = prior_service_pb2.SamplePriorRequest
Response = prior_service_pb2.SamplePriorResponse


class PriorTask:
    """One request: candidates for one picture, of which the best is the result."""

    def __init__(self, sampler: PriorSampler, request: Request) -> None:
        """Raises InvalidInput for a field that cannot be worked with; nothing is computed yet."""
        check_task(request.task)
        if not 1 <= request.candidates <= MAX_CANDIDATES:
            raise InvalidInput(("candidates", f"must be from 1 to {MAX_CANDIDATES}"))
        dim = sampler.config.embedding_dim
        length = sampler.config.text_tokens
        self._text = text_arrays(request.text, "text", dim, dim, length)
        self._unconditional = text_arrays(request.unconditional, "unconditional", dim, dim, length)
        self._sampler = sampler
        self._request = request
        self._rows: list[PriorRow] = []

    @property
    def plans(self) -> Sequence[Plan]:
        """The same for every candidate."""
        task = self._request.task
        return [self._sampler.plan(task.steps, task.guidance)] * self._request.candidates

    def start(self) -> Sequence[PriorRow]:
        """A row for each candidate."""
        texts = (self._on_device(arrays) for arrays in (self._text, self._unconditional))
        conditioning = self._sampler.project(*texts)
        task = self._request.task
        self._rows = [
            self._sampler.start(
                conditioning, seed=task.seed, candidate=i, steps=task.steps, guidance=task.guidance
            )
            for i in range(self._request.candidates)
        ]
        return self._rows

    def preview(self) -> None:
        """An embedding has none."""

    def finish(self) -> prior_service_pb2.PriorResult:
        """The best candidate."""
        embedding, cosine = self._sampler.best(self._rows)
        return prior_service_pb2.PriorResult(embedding=to_message(embedding.cpu().numpy()), cosine=cosine)

    def _on_device(self, arrays: TextArrays) -> Text:
        return Text(*(torch.from_numpy(a.copy()).to(self._sampler.device) for a in arrays))


class PriorStage:
    """One replica's prior: its network and its engine."""

    def __init__(self, settings: Settings, replica: str = "", watcher: Watcher | None = None) -> None:
        torch.set_num_threads(settings.threads)
        lanes = Lanes(settings.lanes if best_device().type == "cpu" else 1)
        self.bundle = Bundle(settings.bundle, PART)
        self._settings = settings
        self._replica = replica
        self._sampler = PriorSampler(self.bundle, call_sizes=settings.call_sizes, lanes=lanes)
        sizes = CallSizes(settings.engine.max_batch, {PART: settings.call_sizes})
        self.engine: StepEngine[PriorRow] = StepEngine(
            self._sampler.advance,
            settings.engine.limits,
            sizes,
            watcher,
            hang_seconds=settings.engine.hang_seconds,
        )

    async def sample(self, request: Request) -> AsyncGenerator[Response, None]:
        """Draw candidates and keep the best."""
        task = PriorTask(self._sampler, request)
        asked = request.task
        events = self.engine.run(
            task, deadline=deadline_of(asked), priority=priority_of(asked), lag=asked.lag_seconds
        )
        async with aclosing(events):
            async for event in events:
                yield self._response(event)

    def _response(self, event: Event) -> Response:
        response = Response(load=self.load())
        if isinstance(event, Queued):
            response.queued.position = event.position
        elif isinstance(event, Stepped):
            response.progress.CopyFrom(sampling_pb2.TaskProgress(step=event.step, steps=event.steps))
        elif isinstance(event, Finished):
            response.result.CopyFrom(event.result)
        return response

    def check(self) -> None:
        """Raises EngineStopped if the replica should be replaced."""
        self.engine.check()

    def load(self) -> sampling_pb2.EngineLoad:
        """How busy this replica is."""
        return load_message(self.engine.load, self._settings.engine.limits, self._replica, lambda network: 0)

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        diffusion = self._sampler.config.diffusion
        sampling = diffusion.sampling
        timesteps = spaced_timesteps(diffusion.make_schedule(), sampling.steps)
        response = describe.describe(self.bundle.manifest)
        response.defaults.steps = sampling.steps
        response.defaults.guidance = sampling.guidance
        response.defaults.guided_share = sampling.guided_share(timesteps)
        response.defaults.fixed = not self._sampler.config.timed
        response.defaults.candidates = self._settings.candidates
        response.load.CopyFrom(self.load())
        return response
