"""Typed clients of the four stages: arrays in, arrays out, errors that name the stage."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import string
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt
from cachetools import TTLCache
from opentelemetry import trace

from gateway import metrics
from gateway.settings import Settings
from services.editing.pictures import Pixels
from services.telemetry import tracing
from services.wire.errors import InvalidInput, StageMismatch, StageUnavailable, from_stage
from services.wire.tensors import Array, from_message, to_message
from unclip.internal.v1 import (
    decoder_service_pb2,
    decoder_service_pb2_grpc,
    image_encoder_service_pb2,
    image_encoder_service_pb2_grpc,
    prior_service_pb2,
    prior_service_pb2_grpc,
    sampling_pb2,
    stage_service_pb2,
    stage_service_pb2_grpc,
    tensor_pb2,
    text_encoder_service_pb2,
    text_encoder_service_pb2_grpc,
)

if TYPE_CHECKING:
    from gateway.sample import Sample

logger = logging.getLogger(__name__)
MESSAGE_BYTES = 64 * 2**20
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)
DESCRIBE_SECONDS = 5.0
PROXY_HEALTH = "/ray.serve.RayServeAPIService/Healthz"
ATTEMPTS, RETRY_SECONDS = 2, 0.2
PRINTABLE = string.punctuation + " "  # what metadata may hold beside letters and digits
Embedding = npt.NDArray[np.float32]
Result = TypeVar("Result")


class Budget:
    """What is left of a request's time, and its id: every call on a stage carries both.

    is_deadline: the caller set it, so stages run the earliest first; the gateway's own limit makes nobody urgent.
    """

    def __init__(self, seconds: float, request_id: str, *, is_deadline: bool = True) -> None:
        self._deadline, self.request_id, self.is_deadline = (
            time.monotonic() + seconds,
            request_id,
            is_deadline,
        )

    @property
    def seconds_left(self) -> float:
        """Never negative; at 0 a call fails with DEADLINE_EXCEEDED before it is sent."""
        return max(0.0, self._deadline - time.monotonic())


@dataclass(frozen=True)
class EncodedText:
    """A prompt and the empty text that guidance is measured against, as the sampling stages take them."""

    prompt: text_encoder_service_pb2.TextConditioning
    blank: text_encoder_service_pb2.TextConditioning


@dataclass(frozen=True)
class Known:
    """A frame's pixels (S, S, 3) and where they are kept (S, S), 255 = kept."""

    pixels: Pixels
    keep: Pixels


@dataclass(frozen=True)
class Start:
    """A picture (S, S, 3) to stay near to, and how near, in [0, 1]."""

    pixels: Pixels
    similarity: float


class Stage:
    """One stage: its channel, and the errors of its calls. The application's name is the stage's."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.channel = name, grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.metadata = (("application", name),)
        self._info: Any = stage_service_pb2_grpc.StageServiceStub(self.channel)
        self._proxy: Any = self.channel.unary_unary(PROXY_HEALTH)

    async def describe(self) -> stage_service_pb2.DescribeResponse:
        """What the stage serves. Raises StageUnavailable if it does not answer."""
        with self.errors():
            response: stage_service_pb2.DescribeResponse = await self._info.Describe(
                stage_service_pb2.DescribeRequest(), timeout=DESCRIBE_SECONDS, metadata=self.metadata
            )
            return response

    async def ping(self) -> None:
        """Whether Ray Serve's proxy answers, which wakes no replica. Raises StageUnavailable if it does not."""
        with self.errors():
            await self._proxy(b"", timeout=DESCRIBE_SECONDS)

    async def call(self, method: Callable[..., Any], request: Any, budget: Budget) -> Any:
        """The answer of a unary call, asked for again once if the stage was not there."""
        for attempt in range(ATTEMPTS):
            try:
                with self.errors(), self._span() as span, tracing.current(span):
                    return await method(request, timeout=budget.seconds_left, metadata=self._metadata(budget))
            except StageUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._before_retry()
        return None

    async def events(
        self, method: Callable[..., Any], request: Any, budget: Budget
    ) -> AsyncGenerator[Any, None]:
        """The events of a sampling call; leaving early cancels it, which frees its rows.

        A call whose replica dies is made again once: seeds make it the same, and progress begins anew.
        """
        for attempt in range(ATTEMPTS):
            try:
                async with contextlib.aclosing(self._events(method, request, budget)) as events:
                    async for event in events:
                        yield event
                return
            except StageUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._before_retry()

    async def _before_retry(self) -> None:
        metrics.stage_retries.labels(self.name).inc()
        await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))

    async def _events(
        self, method: Callable[..., Any], request: Any, budget: Budget
    ) -> AsyncGenerator[Any, None]:
        with self.errors(), self._span() as span:
            with tracing.current(span):
                stream = method(request, timeout=budget.seconds_left, metadata=self._metadata(budget))
            try:
                async for event in stream:
                    yield event
            finally:
                stream.cancel()

    def _metadata(self, budget: Budget) -> tuple[tuple[str, str], ...]:
        """Which application is called, for which request, in which trace."""
        return (*self.metadata, ("request_id", quote(budget.request_id, safe=PRINTABLE)), *tracing.sent())

    @contextlib.contextmanager
    def _span(self) -> Iterator[trace.Span]:
        """A span of one attempt at a call."""
        span, status = tracing.tracer.start_span(self.name, kind=trace.SpanKind.CLIENT), "ok"
        try:
            yield span
        except grpc.aio.AioRpcError as error:
            status = error.code().name.lower()
            raise
        except BaseException:
            status = "cancelled"
            raise
        finally:
            tracing.finish(span, status)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn gRPC errors of this stage into ours."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise from_stage(self.name, error) from None

    def finished(self, result: Result | None) -> Result:
        """A sampling call's result. Raises StageUnavailable if the stream closed without one."""
        if result is None:
            raise from_stage(self.name, None)
        return result

    def array(self, message: tensor_pb2.Tensor, *shape: int | None) -> Array:
        """An array of the stage's answer. Raises StageMismatch if it is not what was asked for."""
        try:
            return from_message(message, self.name, shape)
        except InvalidInput as error:
            logger.error("%s answered: %s", self.name, error)
            raise StageMismatch("the stages do not fit together; the operator has to mend that") from None


class TextEncoder(Stage):
    """Client of TextEncoderService."""

    def __init__(self, address: str, cache_size: int, cache_seconds: float) -> None:
        super().__init__("text_encoder", address)
        self._stub: Any = text_encoder_service_pb2_grpc.TextEncoderServiceStub(self.channel)
        self._encoded: TTLCache[str, EncodedText] = TTLCache(cache_size, cache_seconds)

    async def encode(self, prompt: str, budget: Budget) -> EncodedText:
        """The prompt's conditioning and the empty text's, remembered for a while."""
        found = self._encoded.get(prompt)
        metrics.text_cache.labels("miss" if found is None else "hit").inc()
        if found is None:
            blank, text = (await self._encode(["", prompt], budget)).texts
            found = EncodedText(text, blank)
            if self._encoded.maxsize:
                self._encoded[prompt] = found
        return found

    def forget(self) -> None:
        """Drop what is remembered: another model is served."""
        self._encoded.clear()

    async def embed(self, texts: Sequence[str], budget: Budget) -> tuple[npt.NDArray[np.float32], float]:
        """Unit embeddings (n, D), and CLIP's logit scale."""
        response = await self._encode(texts, budget)
        rows = [self.array(t.embedding, None) for t in response.texts]
        return np.stack([normalised(row) for row in rows]), response.logit_scale

    async def _encode(
        self, texts: Sequence[str], budget: Budget
    ) -> text_encoder_service_pb2.EncodeTextResponse:
        request = text_encoder_service_pb2.EncodeTextRequest(texts=texts, request_id=budget.request_id)
        response: text_encoder_service_pb2.EncodeTextResponse = await self.call(
            self._stub.EncodeText, request, budget
        )
        return response


class ImageEncoder(Stage):
    """Client of ImageEncoderService."""

    def __init__(self, address: str) -> None:
        super().__init__("image_encoder", address)
        self._stub: Any = image_encoder_service_pb2_grpc.ImageEncoderServiceStub(self.channel)

    async def encode(self, pixels: Pixels, budget: Budget) -> Embedding:
        """(H, W, 3) -> (D,), not normalised."""
        request = image_encoder_service_pb2.EncodeImageRequest(
            picture=to_message(pixels), request_id=budget.request_id
        )
        response = await self.call(self._stub.EncodeImage, request, budget)
        return self.array(response.embedding, None)


class Prior(Stage):
    """Client of PriorService."""

    def __init__(self, address: str) -> None:
        super().__init__("prior", address)
        self._stub: Any = prior_service_pb2_grpc.PriorServiceStub(self.channel)

    async def sample(self, text: EncodedText, sample: Sample) -> Embedding:
        """Draw candidates for one picture and return the best's image embedding (D,)."""
        request = prior_service_pb2.SamplePriorRequest(
            task=sample.task(sample.options.prior_steps, sample.options.prior_guidance),
            text=text.prompt,
            unconditional=text.blank,
            candidates=sample.options.prior_candidates,
        )
        result: Embedding | None = None
        with sample.timed("prior"):
            async with contextlib.aclosing(
                self.events(self._stub.SamplePrior, request, sample.budget)
            ) as events:
                async for event in events:
                    if event.HasField("queued"):
                        sample.queued("prior", event.queued.position)
                    elif event.HasField("progress"):
                        sample.progressed("prior", event.progress.step, event.progress.steps)
                    elif event.HasField("result"):
                        result = self.array(event.result.embedding, None)
        return self.finished(result)


class Decoder(Stage):
    """Client of DecoderService."""

    def __init__(self, address: str) -> None:
        super().__init__("decoder", address)
        self._stub: Any = decoder_service_pb2_grpc.DecoderServiceStub(self.channel)

    async def sample(
        self,
        embedding: Embedding,
        text: EncodedText,
        sample: Sample,
        *,
        size: int,
        known: Known | None = None,
        start: Start | None = None,
    ) -> Pixels:
        """Make one picture, (size, size, 3)."""
        options = sample.options
        request = decoder_service_pb2.SampleDecoderRequest(
            task=sample.task(options.decoder_steps, options.decoder_guidance),
            embedding=to_message(embedding),
            text=text.prompt,
            unconditional=text.blank,
            upsampler_steps=options.upsampler_steps,
            size=size,
            preview_interval=options.preview_interval,
            known=None
            if known is None
            else decoder_service_pb2.KnownRegion(
                picture=to_message(known.pixels), keep=to_message(known.keep)
            ),
            start=None
            if start is None
            else decoder_service_pb2.StartingPoint(
                picture=to_message(start.pixels), similarity=start.similarity
            ),
        )
        result: Pixels | None = None
        async with contextlib.aclosing(
            self.events(self._stub.SampleDecoder, request, sample.budget)
        ) as events:
            with contextlib.ExitStack() as timing:
                timing.enter_context(sample.timed("decoder"))
                async for event in events:
                    if event.HasField("queued"):
                        sample.queued("decoder", event.queued.position)
                    elif event.HasField("progress"):
                        self._progressed(event.progress, sample, timing)
                    elif event.HasField("preview"):
                        sample.previewed(self.array(event.preview.picture, None, None, 3))
                    elif event.HasField("result"):
                        result = self.array(event.result.picture, size, size, 3)
        return self.finished(result)

    @staticmethod
    def _progressed(
        event: decoder_service_pb2.DecoderProgress, sample: Sample, timing: contextlib.ExitStack
    ) -> None:
        """Pass progress on; when the base picture is done, the upsampler's time begins."""
        progress = event.progress
        if event.more and progress.step == progress.steps:
            timing.close()
            timing.enter_context(sample.timed("upsampler"))
        sample.progressed("upsampler" if event.upsampling else "decoder", progress.step, progress.steps)


def normalised(embedding: Embedding) -> Embedding:
    """At unit length."""
    scaled: Embedding = embedding / np.linalg.norm(embedding)
    return scaled


@dataclass(frozen=True)
class Stages:
    """The four stages, each by its own address."""

    text_encoder: TextEncoder
    image_encoder: ImageEncoder
    prior: Prior
    decoder: Decoder

    @classmethod
    def connect(cls, settings: Settings) -> Stages:
        """Clients for the addresses in the settings; nothing is sent yet."""
        return cls(
            TextEncoder(settings.text_encoder_address, settings.text_cache_size, settings.text_cache_seconds),
            ImageEncoder(settings.image_encoder_address),
            Prior(settings.prior_address),
            Decoder(settings.decoder_address),
        )

    @property
    def all(self) -> tuple[Stage, ...]:
        """In the order of the pipeline."""
        return self.text_encoder, self.image_encoder, self.prior, self.decoder

    async def close(self) -> None:
        """Close the channels."""
        for stage in self.all:
            await stage.channel.close()


def task_message(seed: int, steps: int, guidance: float, budget: Budget) -> sampling_pb2.SamplingTask:
    """What every sampling request carries."""
    task = sampling_pb2.SamplingTask(request_id=budget.request_id, seed=seed, steps=steps, guidance=guidance)
    if budget.is_deadline:
        task.time_left.FromNanoseconds(int(budget.seconds_left * 1e9))
    return task
