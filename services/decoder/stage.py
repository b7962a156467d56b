"""The decoder stage: requests from the wire to rows of the engine, and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.decoder.sampler import BASE, UPSAMPLERS, DecoderRow, DecoderSampler, DecoderTask, Picture
from services.decoder.settings import Settings
from services.engine import Event, Queued, StepEngine, Stepped
from services.serving import servicing
from services.serving.autoscaling import recorded
from services.serving.metrics import EngineMetrics
from services.wire.conditioning import MAX_STEPS, check_task, text_arrays
from services.wire.errors import InvalidInput
from services.wire.tensors import from_message, to_message
from unclip.internal.v1 import (
    decoder_service_pb2,
    sampling_pb2,
    stage_service_pb2,
    tensor_pb2,
    text_encoder_service_pb2,
)

Response = decoder_service_pb2.SampleDecoderResponse


class DecoderStage:
    """One replica's decoder: its networks and its engine."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._settings, self.bundle = settings, Bundle(settings.bundle, BASE, UPSAMPLERS)
        self._sampler = DecoderSampler(
            self.bundle, call_size=settings.call_size, upsampler_call_size=settings.upsampler_call_size
        )
        if settings.size not in (0, *self._sampler.sizes):
            raise ValueError(
                f"size: {settings.size} is not one of {', '.join(map(str, self._sampler.sizes))}"
            )
        self._engine: StepEngine[DecoderRow] = StepEngine(
            self._sampler.advance, settings.engine.limits, EngineMetrics(settings.engine.limits)
        )

    async def sample(
        self, request: decoder_service_pb2.SampleDecoderRequest
    ) -> AsyncGenerator[Response, None]:
        """Make one picture."""
        row = self._sampler.start(self._task(request))
        events = self._engine.run([row], deadline=servicing.deadline_of(request.task))
        try:
            async for event in events:
                yield _to_response(event, row)
                if (
                    isinstance(event, Stepped)
                    and _preview_due(event, row, request.preview_interval)
                    and row.x0 is not None
                ):
                    yield Response(preview=decoder_service_pb2.DecoderPreview(picture=_to_pixels(row.x0)))
        finally:
            await events.aclose()
        assert row.result is not None
        yield Response(result=decoder_service_pb2.DecoderResult(picture=_to_pixels(row.result)))

    def _task(self, request: decoder_service_pb2.SampleDecoderRequest) -> DecoderTask:
        check_task(request.task)
        if request.size not in self._sampler.sizes:
            raise InvalidInput("size", f"must be one of {', '.join(map(str, self._sampler.sizes))}")
        if not 1 <= request.upsampler_steps <= MAX_STEPS:
            raise InvalidInput("upsampler_steps", f"must be from 1 to {MAX_STEPS}")
        if not 0 <= request.start.similarity <= 1:
            raise InvalidInput("start.similarity", "must be from 0 to 1")
        embedding = self._tensor(
            request.embedding, "embedding", (self._sampler.config.conditioning.embedding_dim,)
        )
        return DecoderTask(
            context=self._sampler.project(embedding, *self._text(request.text, "text")),
            unconditional=self._sampler.project(None, *self._text(request.unconditional, "unconditional")),
            seed=request.task.seed,
            steps=request.task.steps,
            guidance=request.task.guidance,
            upsampler_steps=request.upsampler_steps,
            size=request.size,
            known=self._known(request.known, request.size) if request.HasField("known") else None,
            start=self._picture(request.start.picture, "start.picture", request.size)
            if request.HasField("start")
            else None,
            similarity=request.start.similarity,
        )

    def _tensor(self, message: tensor_pb2.Tensor, field: str, shape: tuple[int | None, ...]) -> Tensor:
        return torch.from_numpy(from_message(message, field, shape).copy()).to(self._sampler.device)

    def _text(
        self, message: text_encoder_service_pb2.TextConditioning, field: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        config = self._sampler.config.conditioning
        arrays = text_arrays(message, field, config.embedding_dim, config.text_dim)
        embedding, states, mask = (torch.from_numpy(a.copy()).to(self._sampler.device) for a in arrays)
        return embedding, states, mask

    def _picture(self, message: tensor_pb2.Tensor, field: str, side: int) -> Tensor:
        return self._tensor(message, field, (side, side, 3)).permute(2, 0, 1).float() / 127.5 - 1

    def _known(self, message: decoder_service_pb2.KnownRegion, side: int) -> Picture:
        keep = self._tensor(message.keep, "known.keep", (side, side))[None].float() / 255
        return Picture(self._picture(message.picture, "known.picture", side), keep)

    def autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy works with."""
        return recorded(self._engine.load, self._settings.engine.limits)

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        response, sampling = servicing.describe(self.bundle), self._sampler.config.diffusion.sampling
        response.sizes.extend(self._sampler.sizes)
        response.defaults.steps, response.defaults.guidance = sampling.steps, sampling.guidance
        response.defaults.upsampler_steps = self._sampler.upsampler_steps
        response.defaults.size = self._settings.size or self._sampler.sizes[-1]
        response.defaults.similarity = self._settings.similarity
        response.load.CopyFrom(servicing.load_message(self._engine.load))
        return response


def _preview_due(event: Stepped, row: DecoderRow, interval: int) -> bool:
    return (
        interval > 0
        and event.step < event.steps
        and event.step <= row.base_steps
        and event.step % interval == 0
    )


def _to_pixels(picture: Tensor) -> tensor_pb2.Tensor:
    """(3, H, W) in [-1, 1] as (H, W, 3) uint8."""
    return to_message(
        ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    )


def _to_response(event: Event, row: DecoderRow) -> Response:
    if isinstance(event, Queued):
        return Response(queued=sampling_pb2.TaskQueued(position=event.position))
    upsampling = event.step > row.base_steps
    done, steps = (
        (event.step - row.base_steps, row.steps - row.base_steps)
        if upsampling
        else (event.step, row.base_steps)
    )
    more = not upsampling and row.steps > row.base_steps
    return Response(
        progress=decoder_service_pb2.DecoderProgress(
            upsampling=upsampling, progress=sampling_pb2.TaskProgress(step=done, steps=steps), more=more
        )
    )
