"""The decoder stage: requests from the wire to tasks of the engine, and its events back to the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np
import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device
from services.decoder.conditioning import ConditioningConfig, ImageConditioningConfig
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.settings import Settings
from services.decoder.tasks import DecoderRow, DecoderTask, Picture, Shape
from services.diffusion.lanes import Lanes
from services.diffusion.pixels import to_pixels, to_signal
from services.diffusion.schedule import spaced_timesteps
from services.engine import Event, Finished, Plan, Queued, Shown, StepEngine, Stepped, Watcher
from services.serving import describe
from services.serving.engine import deadline_of, load_message, priority_of
from services.wire.conditioning import MAX_STEPS, TextArrays, check_task, text_arrays
from services.wire.errors import InvalidInput
from services.wire.tensors import Array, from_message, to_message
from unclip.internal.v1 import decoder_service_pb2, sampling_pb2, stage_service_pb2, tensor_pb2

Request = decoder_service_pb2.SampleDecoderRequest
Response = decoder_service_pb2.SampleDecoderResponse


class PictureTask:
    """One request: one picture."""

    def __init__(self, sampler: DecoderSampler, request: Request) -> None:
        """Raises InvalidInput for a field that cannot be worked with; nothing is computed yet."""
        _check(sampler, request)
        config = sampler.config.conditioning
        shape = shape_of(request)
        self._sampler = sampler
        self._request = request
        self._embedding = from_message(request.embedding, "embedding", (config.embedding_dim,))
        self._text, self._unconditional = _texts(request, config)
        self._known = (
            _pixels(request.known.picture, "known.picture", shape) if request.HasField("known") else None
        )
        self._keep = (
            from_message(request.known.keep, "known.keep", shape) if self._known is not None else None
        )
        self._start = (
            _pixels(request.start.picture, "start.picture", shape) if request.HasField("start") else None
        )
        self._row: DecoderRow | None = None
        self._previewed = 0

    @property
    def plans(self) -> Sequence[Plan]:
        """The picture's way through the networks."""
        return [self.plan]

    @property
    def plan(self) -> Plan:
        """The steps in each network, in order."""
        request = self._request
        return self._sampler.plan(
            steps=request.task.steps,
            guidance=request.task.guidance,
            upsampler_steps=request.upsampler_steps,
            shape=shape_of(request),
            similarity=request.start.similarity,
            context=len(self._text[2]),
            edits=self._known is not None,
        )

    def start(self) -> Sequence[DecoderRow]:
        """Put everything on the device, and project the conditioning once for all steps."""
        request = self._request
        task = DecoderTask(
            context=self._projected(self._on_device(self._embedding), self._text),
            unconditional=self._projected(None, self._unconditional),
            seed=request.task.seed,
            steps=request.task.steps,
            guidance=request.task.guidance,
            upsampler_steps=request.upsampler_steps,
            size=request.size,
            width=request.width,
            known=self._known_picture(),
            start=None if self._start is None else self._signal(self._start),
            similarity=request.start.similarity,
        )
        self._row = self._sampler.start(task)
        return [self._row]

    def preview(self) -> tensor_pb2.Tensor | None:
        """What the picture looks like so far, every ``preview_interval`` steps of the base network."""
        row = self._row
        interval = self._request.preview_interval
        if row is None or row.x0 is None or not interval:
            return None
        due = row.step <= row.base_steps and row.step < row.steps and row.step % interval == 0
        return _to_message(self._sampler.space.preview(row.x0)) if due else None

    def finish(self) -> decoder_service_pb2.DecoderResult:
        """The picture."""
        assert self._row is not None
        assert self._row.result is not None
        return decoder_service_pb2.DecoderResult(picture=_to_message(self._row.result))

    def _on_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array.copy()).to(self._sampler.device)

    def _texts(self, arrays: TextArrays) -> tuple[Tensor, Tensor, Tensor]:
        embedding, states, mask = (self._on_device(array) for array in arrays)
        return embedding, states, mask

    def _projected(self, image: Tensor | None, text: TextArrays) -> tuple[Tensor, Tensor, Tensor]:
        return self._sampler.project(image, *self._texts(text), edits=self._known is not None)

    def _signal(self, pixels: Array) -> Tensor:
        """(H, W, 3) uint8 to (3, H, W) in [-1, 1]."""
        return to_signal(self._on_device(pixels))

    def _known_picture(self) -> Picture | None:
        if self._known is None or self._keep is None:
            return None
        return Picture(self._signal(self._known), self._on_device(self._keep)[None].float() / 255)


class DecoderStage:
    """One replica's decoder: its networks and its engine."""

    def __init__(self, settings: Settings, replica: str = "", watcher: Watcher | None = None) -> None:
        torch.set_num_threads(settings.threads)
        lanes = Lanes(settings.lanes if best_device().type == "cpu" else 1)
        self.bundle = Bundle(settings.bundle, *PARTS)
        self._settings = settings
        self._replica = replica
        self.sampler = DecoderSampler(
            self.bundle,
            call_sizes=settings.call_sizes,
            upsampler_call_sizes=settings.upsampler_call_sizes,
            lanes=lanes,
        )
        sizes = self.sampler.sizes
        if settings.size not in (0, *sizes):
            raise ValueError(f"size: {settings.size} is not one of {', '.join(map(str, sizes))}")
        call_sizes = self.sampler.call_sizes(settings.engine.max_batch)
        self.engine: StepEngine[DecoderRow] = StepEngine(
            self.sampler.advance,
            settings.engine.limits,
            call_sizes,
            watcher,
            hang_seconds=settings.engine.hang_seconds,
        )

    async def sample(self, request: Request) -> AsyncGenerator[Response, None]:
        """Make one picture."""
        task = PictureTask(self.sampler, request)
        asked = request.task
        events = self.engine.run(
            task, deadline=deadline_of(asked), priority=priority_of(asked), lag=asked.lag_seconds
        )
        async with aclosing(events):
            async for event in events:
                yield self._response(event, task.plan)

    def _response(self, event: Event, plan: Plan) -> Response:
        response = Response(load=self.load())
        if isinstance(event, Queued):
            response.queued.position = event.position
        elif isinstance(event, Stepped):
            response.progress.CopyFrom(_progress(event, plan, self.sampler))
        elif isinstance(event, Shown):
            response.preview.picture.CopyFrom(event.preview)
        elif isinstance(event, Finished):
            response.result.CopyFrom(event.result)
        return response

    def check(self) -> None:
        """Raises EngineStopped if the replica should be replaced."""
        self.engine.check()

    def load(self) -> sampling_pb2.EngineLoad:
        """How busy this replica is."""
        limits = self._settings.engine.limits
        return load_message(self.engine.load, limits, self._replica, self.sampler.side_of)

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        diffusion = self.sampler.config.diffusion
        sampling = diffusion.sampling
        timesteps = spaced_timesteps(diffusion.make_schedule(), sampling.steps)
        response = describe.describe(self.bundle.manifest)
        response.sizes.extend(self.sampler.sizes)
        response.native_sizes.extend(self.sampler.config.native)
        response.shape_multiple = self.sampler.config.multiple
        response.made_for = self.sampler.default_size
        response.ignores_text = isinstance(self.sampler.config.conditioning, ImageConditioningConfig)
        response.defaults.steps = sampling.steps
        response.defaults.guidance = sampling.guidance
        response.defaults.guided_share = sampling.guided_share(timesteps)
        response.defaults.upsampler_steps = self.sampler.upsampler_steps
        response.defaults.size = self._settings.size or self.sampler.default_size
        response.defaults.similarity = self._settings.similarity
        response.load.CopyFrom(self.load())
        return response


def _check(sampler: DecoderSampler, request: Request) -> None:
    check_task(request.task)
    height, width = shape_of(request)
    if height == width and height not in sampler.sizes:
        raise InvalidInput(("size", f"must be one of {', '.join(map(str, sampler.sizes))}"))
    if height != width and not sampler.config.draws(height, width):
        raise InvalidInput(("width", f"{width} x {height} is no shape that is drawn"))
    if height != width and request.HasField("known"):
        raise InvalidInput(("known", "must be square"))
    if not 1 <= request.upsampler_steps <= MAX_STEPS:
        raise InvalidInput(("upsampler_steps", f"must be from 1 to {MAX_STEPS}"))
    if not 0 <= request.start.similarity <= 1:
        raise InvalidInput(("start.similarity", "must be from 0 to 1"))


def _texts(
    request: Request, config: ConditioningConfig | ImageConditioningConfig
) -> tuple[TextArrays, TextArrays]:
    """The text and the one guidance is measured against; nothing for a decoder that takes no text."""
    if isinstance(config, ImageConditioningConfig):
        nothing = np.zeros(0, np.float32), np.zeros((0, 1), np.float32), np.zeros(0, np.bool_)
        return nothing, nothing
    text = text_arrays(request.text, "text", config.embedding_dim, config.text_dim)
    length = len(text[2])
    return text, text_arrays(
        request.unconditional, "unconditional", config.embedding_dim, config.text_dim, length
    )


def shape_of(request: Request) -> Shape:
    """Height and width of the picture that is asked for, in px."""
    return request.size, request.width or request.size


def _pixels(message: tensor_pb2.Tensor, field: str, shape: Shape) -> Array:
    return from_message(message, field, (*shape, 3))


def _to_message(picture: Tensor) -> tensor_pb2.Tensor:
    """(3, H, W) in [-1, 1] as (H, W, 3) uint8."""
    return to_message(to_pixels(picture).cpu().numpy())


def _progress(event: Stepped, plan: Plan, sampler: DecoderSampler) -> decoder_service_pb2.DecoderProgress:
    """How far the picture is: in the base network, or in all upsamplers together."""
    steps_of: dict[str, int] = {}
    for segment in plan:
        steps_of[segment.network] = steps_of.get(segment.network, 0) + segment.steps
    if sampler.is_base(event.network):
        progress = sampling_pb2.TaskProgress(step=event.step, steps=event.steps)
        return decoder_service_pb2.DecoderProgress(progress=progress, more=len(steps_of) > 1)
    steps_of = {name: steps for name, steps in steps_of.items() if not sampler.is_base(name)}
    names = list(steps_of)
    before = sum(steps_of[name] for name in names[: names.index(event.network)])
    progress = sampling_pb2.TaskProgress(step=before + event.step, steps=sum(steps_of.values()))
    return decoder_service_pb2.DecoderProgress(upsampling=True, progress=progress)
