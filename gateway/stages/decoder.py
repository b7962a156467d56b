"""Client of DecoderService."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.events import Event, Previewed, Progressed, Queued, Step
from gateway.sizes import Shape
from gateway.stages.backlog import Backlog
from gateway.stages.budget import Budget
from gateway.stages.channel import StageChannel
from gateway.stages.sampling import Sampling
from gateway.stages.text_encoder import Embedding, EncodedText
from services.editing.pictures import Pixels
from services.wire.tensors import to_message
from unclip.internal.v1 import decoder_service_pb2, decoder_service_pb2_grpc

Request = decoder_service_pb2.SampleDecoderRequest
Response = decoder_service_pb2.SampleDecoderResponse


@dataclass(frozen=True)
class Known:
    """A frame's pixels (S, S, 3) and where they are kept (S, S), 255 = kept."""

    pixels: Pixels
    keep: Pixels


@dataclass(frozen=True)
class Start:
    """A picture of the result's shape, (H, W, 3), to stay near to, and how near, in [0, 1]."""

    pixels: Pixels
    similarity: float


@dataclass(frozen=True)
class DecoderOptions:
    """How one picture is sampled.

    Steps and guidance are the base network's; each upsampler takes ``upsampler_steps``. A preview comes every
    ``preview_interval`` steps; 0: none.
    """

    steps: int
    guidance: float
    upsampler_steps: int
    preview_interval: int = 0


class Decoder:
    """Image embeddings to pictures. ``backlog``: what the stage has told of its load."""

    def __init__(self, channel: StageChannel) -> None:
        self.channel = channel
        self.backlog = Backlog()

    def sample(
        self,
        embedding: Embedding,
        text: EncodedText,
        options: DecoderOptions,
        *,
        seed: int,
        shape: Shape,
        budget: Budget,
        known: Known | None = None,
        start: Start | None = None,
    ) -> Sampling[Response, Pixels]:
        """Make one picture; the result is (height, width, 3)."""
        fixed = Request(
            embedding=to_message(embedding),
            text=text.prompt,
            unconditional=text.unconditional,
            upsampler_steps=options.upsampler_steps,
            size=shape.height,
            width=0 if shape.is_square else shape.width,
            preview_interval=options.preview_interval,
        )
        if known is not None:
            fixed.known.picture.CopyFrom(to_message(known.pixels))
            fixed.known.keep.CopyFrom(to_message(known.keep))
        if start is not None:
            fixed.start.picture.CopyFrom(to_message(start.pixels))
            fixed.start.similarity = start.similarity

        def request() -> Request:
            fixed.task.CopyFrom(budget.task(seed, options.steps, options.guidance))
            return fixed

        messages = self.channel.stream(
            lambda: self.channel.stub(decoder_service_pb2_grpc.DecoderServiceStub).SampleDecoder,
            request,
            lambda m: m.HasField("result"),
            budget,
        )
        return Sampling(self.channel, messages, "decoder", lambda m: self._read(m, shape), _next_step)

    def _read(self, message: Response, shape: Shape) -> Event | Pixels | None:
        self.backlog.told(message.load)
        event = message.WhichOneof("event")
        if event == "queued":
            return Queued("decoder", message.queued.position)
        if event == "progress":
            step: Step = "upsampler" if message.progress.upsampling else "decoder"
            return Progressed(step, message.progress.progress.step, message.progress.progress.steps)
        if event == "preview":
            return Previewed(self.channel.array(message.preview.picture, None, None, 3))
        if event == "result":
            return self.channel.array(message.result.picture, shape.height, shape.width, 3)
        return None


def _next_step(message: Response) -> Step | None:
    """The upsampler, once the base network has taken its last step of a picture that is raised further."""
    progress = message.progress
    if not message.HasField("progress"):
        return None
    done = progress.more and progress.progress.step == progress.progress.steps
    return "upsampler" if done or progress.upsampling else "decoder"
