"""Checks of what all requests for pictures have, and their defaults, against the model that is served."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from gateway.checks import Checks
from gateway.content import WORD, ContentRefused, ContentRules
from gateway.events import Warned
from gateway.flows.flow import Options, Output
from gateway.readiness import Model
from gateway.settings import Settings
from gateway.sizes import Shape, square
from gateway.stages.budget import Priority
from services.editing.pictures import OutputFormat
from unclip.v1 import image_service_pb2 as pb

FORMATS: dict[int, OutputFormat] = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: "PNG",
    pb.OUTPUT_FORMAT_PNG: "PNG",
    pb.OUTPUT_FORMAT_WEBP: "WEBP",
    pb.OUTPUT_FORMAT_JPEG: "JPEG",
}
PRIORITIES: dict[int, Priority] = {
    pb.PRIORITY_UNSPECIFIED: "interactive",
    pb.PRIORITY_INTERACTIVE: "interactive",
    pb.PRIORITY_BATCH: "batch",
}


ShapedMessage = pb.GenerateRequest | pb.VaryRequest | pb.MixRequest | pb.InterpolateRequest


class DrawingChecks(Checks):
    """Checks of sizes, options and output."""

    def __init__(self, settings: Settings, model: Model, rules: ContentRules) -> None:
        super().__init__(settings)
        self._model = model
        self._rules = rules

    def prompt(self, field: str, text: str) -> None:
        """A text that pictures are drawn of."""
        self.text(field, text)
        if not self._rules.allow_text(text):
            self.problem(field, WORD)
            self._error = ContentRefused

    def results(self, n: int, width: int, height: int) -> int:
        """Pixels of all pictures of the answer."""
        most = self._settings.max_result_pixels
        pixels = n * width * height
        if 1 < n <= self._settings.max_n and pixels > most:
            self.problem("options.n", f"{n} pictures have {pixels} pixels; at most {most} are allowed in all")
        return pixels

    def shape(self, request: ShapedMessage) -> Shape:
        """That of pictures: as ``size`` has it or, if they are not square, ``shape``."""
        if not any((request.shape.width, request.shape.height)):
            return square(self.size(request.size))
        shape = Shape(request.shape.width, request.shape.height)
        longest = self._settings.max_aspect_ratio
        if request.size:
            self.problem("shape", "cannot be given with size")
        elif shape.is_square:
            return square(self.size(shape.width, "shape"))
        elif problem := self._model.sizes.problem(shape):
            self.problem("shape", problem)
        elif max(shape) > longest * min(shape):
            said = f"is {shape.width} x {shape.height}; one side may be at most {longest:g} times the other"
            self.problem("shape", said)
        return shape

    def size(self, size: int, field: str = "size") -> int:
        """The side of square pictures; 0 is the deployment's default."""
        largest = self._model.sizes.largest
        if size > largest:
            self.problem(field, f"is {size}; at most {largest} is allowed")
        return min(size, largest) or self._model.decoder.size

    def output(self, given: pb.Output) -> Output:
        """How pictures go back."""
        quality = given.quality if given.HasField("quality") else Output.quality
        self.in_range("output.quality", quality, 1, 100)
        if given.format not in FORMATS:
            self.problem("output.format", f"is {given.format}; see OutputFormat for what is allowed")
        return Output(FORMATS.get(given.format, "PNG"), quality)

    def options(self, given: pb.SamplingOptions) -> Options:
        """How to sample, every default filled in."""
        settings = self._settings
        prior = self._model.prior
        decoder = self._model.decoder
        present = {field.name for field, _ in given.ListFields()}

        def value(field: str, default: float, low: float, high: float) -> float:
            if field not in present:
                # A limit below the model's default is no fault of the caller's.
                return min(max(default, low), high)
            found = float(getattr(given, field))
            self.in_range(f"options.{field}", found, low, high)
            return found

        if given.priority not in PRIORITIES:
            self.problem("options.priority", f"is {given.priority}; see Priority for what is allowed")
        guidance = settings.max_guidance
        steps = settings.max_steps
        prior_steps = int(value("prior_steps", prior.steps, 1, steps))
        prior_guidance = value("prior_guidance", prior.guidance, 0, guidance)
        n = int(value("n", 1, 1, settings.max_n))
        decoder_steps = int(value("decoder_steps", decoder.steps, 1, steps))
        decoder_guidance = value("decoder_guidance", decoder.guidance, 0, guidance)
        if given.negative_prompt:
            # Below 1, guidance leads towards it.
            check = self.prompt if min(prior_guidance, decoder_guidance) < 1 else self.text
            check("options.negative_prompt", given.negative_prompt)
        return Options(
            n=n,
            seed=given.seed if given.HasField("seed") else secrets.randbits(32),
            prior_steps=prior.steps if prior.fixed else prior_steps,
            prior_guidance=prior.guidance if prior.fixed else prior_guidance,
            decoder_steps=decoder_steps,
            decoder_guidance=decoder_guidance,
            upsampler_steps=int(value("upsampler_steps", decoder.upsampler_steps, 1, steps)),
            prior_candidates=int(
                value("prior_candidates", prior.candidates, 1, settings.max_prior_candidates)
            ),
            preview_interval=given.preview_interval,
            negative_prompt=given.negative_prompt,
            reads_text=not self._model.ignores_text,
            warnings=_without_effect(present) if prior.fixed else (),
            priority=PRIORITIES.get(given.priority, "interactive"),
        )


def _without_effect(present: Collection[str]) -> tuple[Warned, ...]:
    """What to tell of options that a prior which takes none of them was given."""
    reason = "has no effect: this model's prior takes one step, without guidance"
    given = [field for field in ("prior_steps", "prior_guidance") if field in present]
    return tuple(Warned(f"options.{field}", reason, "no effect") for field in given)
