"""What all flows have in common: how to sample, and what a request is named by."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import ClassVar, Self

from PIL import Image

from gateway.events import Event, Indexed, Observe, Timed, Warned, text_cut, unobserved
from gateway.ledger import Demand
from gateway.quotas import Cost
from gateway.sizes import Shape, Sizes
from gateway.stages import Stages
from gateway.stages.backlog import Steps
from gateway.stages.budget import Budget, Priority
from gateway.stages.decoder import DecoderOptions
from gateway.stages.sampling import Sampling
from gateway.stages.text_encoder import Embedding, EncodedText
from services.editing.errors import PictureError
from services.editing.pictures import Header, OutputFormat, Pixels, read_picture
from services.wire.errors import InvalidInput
from unclip.internal.v1 import decoder_service_pb2, prior_service_pb2

SEEDS = 2**64
PriorSampling = Sampling[prior_service_pb2.SamplePriorResponse, Embedding]
DecoderSampling = Sampling[decoder_service_pb2.SampleDecoderResponse, Pixels]


@dataclass(frozen=True)
class Options:
    """How to sample, every default filled in."""

    n: int
    seed: int
    prior_steps: int
    prior_guidance: float
    decoder_steps: int
    decoder_guidance: float
    upsampler_steps: int
    prior_candidates: int
    preview_interval: int
    negative_prompt: str = ""
    reads_text: bool = True  # the decoder does
    warnings: tuple[Warned, ...] = ()  # what of them has no effect
    priority: Priority = "interactive"

    @property
    def seeds(self) -> list[int]:
        """Of each picture."""
        return [(self.seed + index) % SEEDS for index in range(self.n)]

    @property
    def text_guidances(self) -> tuple[float, float]:
        """How strictly the prior and the decoder follow a text; 1: it is not measured against another."""
        return self.prior_guidance, self.decoder_guidance if self.reads_text else 1.0

    @property
    def decoder(self) -> DecoderOptions:
        """The decoder's part."""
        return DecoderOptions(
            self.decoder_steps, self.decoder_guidance, self.upsampler_steps, self.preview_interval
        )


@dataclass(frozen=True)
class Output:
    """How pictures go back."""

    form: OutputFormat = "PNG"
    quality: int = 90


@dataclass(frozen=True)
class Flow(abc.ABC):
    """A checked request. sizes: those that the decoder makes.

    held_bytes: what it keeps in memory while it is worked on, beside the message it came in.
    """

    options: Options
    output: Output
    request_id: str
    sizes: Sizes
    held_bytes: int = field(default=0, kw_only=True)
    edits: ClassVar[bool] = False  # a picture that is given, rather than drawing new ones

    @property
    def given(self) -> tuple[bytes, ...]:
        """The files of pictures that the results are made of."""
        return ()

    @property
    def cost(self) -> Cost:
        """What it takes of its tenant's quota: its pictures, and their pixels times the steps on them."""
        decoder = [demand for demand in self.demands() if demand.stage == "decoder"]
        steps = [each for demand in decoder for frame in demand.frames for each in frame]
        pixels = sum(each.size**2 * each.steps for each in steps)
        return Cost(self.options.n, math.ceil(self.options.n * pixels / 1e6))

    async def prepared(self) -> Self:
        """The flow with what has to be known before its demands can be told exactly; it may be costly."""
        return self

    @abc.abstractmethod
    def demands(self) -> tuple[Demand, ...]:
        """What each picture needs of the sampling stages, in the order it goes through them."""

    @abc.abstractmethod
    def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Draw the pictures, yielding all that happens; closing the generator cancels the work.

        observe: is told of what happens to a picture at once, however slowly it is read.
        """

    def prior_demand(self) -> Demand:
        """Candidates for one picture."""
        options = self.options
        steps = Steps(0, options.prior_steps, evaluations(options.prior_guidance))
        return Demand("prior", ((steps,),), rows=options.prior_candidates)

    def decoder_demand(self, *shapes: Shape) -> Demand:
        """Pictures that are drawn at these shapes, one after another."""
        return Demand("decoder", tuple(map(self.decoder_steps, shapes)))

    def decoder_steps(self, shape: Shape) -> tuple[Steps, ...]:
        """Those of one picture that is drawn at this shape, in each network."""
        options = self.options
        base, *raised = self.sizes.way(shape)
        upsamplers = (Steps(side, options.upsampler_steps) for side in raised)
        mean = evaluations(options.decoder_guidance, self.sizes.guided_share)
        return Steps(base, options.decoder_steps, mean), *upsamplers

    def sample_prior(self, stages: Stages, text: EncodedText, seed: int, budget: Budget) -> PriorSampling:
        """Draw candidates for the picture with this seed."""
        options = self.options
        return stages.prior.sample(
            text,
            seed=seed,
            steps=options.prior_steps,
            guidance=options.prior_guidance,
            candidates=options.prior_candidates,
            budget=budget,
        )


async def encoded(
    stages: Stages, prompt: str, options: Options, budget: Budget, *guidances: float, field: str = "prompt"
) -> tuple[EncodedText, list[Event]]:
    """The conditioning of the prompt and of the negative prompt, and what there is to tell of it.

    guidances: of the networks that the flow uses; none: the negative prompt is not spoken of.
    field: what the request calls the prompt.
    """
    started = time.monotonic()
    text = await stages.text_encoder.encode(prompt, options.negative_prompt, budget)
    told: list[Event] = [Timed("text_encoder", time.monotonic() - started)]
    cut = {field: text.prompt.last_word_read, "options.negative_prompt": text.unconditional.last_word_read}
    told += [text_cut(name, word) for name, word in cut.items() if word]
    if options.negative_prompt and guidances and all(guidance == 1.0 for guidance in guidances):
        told.append(Warned("options.negative_prompt", "has no effect without guidance", "no effect"))
    return text, told


def decode(data: bytes, header: Header, field: str) -> Image.Image:
    """A picture from a caller, as RGBA. Raises InvalidInput naming its field."""
    try:
        return read_picture(data, header)
    except PictureError as error:
        raise InvalidInput((field, str(error))) from None


def evaluations(guidance: float, guided_share: float = 1.0) -> float:
    """Of the network in a step, in the mean: two in the share of steps that take guidance."""
    return 1.0 if guidance == 1.0 else 1.0 + guided_share
