"""Requests from the wire to requests that can be worked with; everything wrong with one is told at once."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from gateway.flows.generate import Generate
from gateway.flows.paint import Paint
from gateway.flows.request import FlowRequest
from gateway.flows.vary import Vary
from gateway.model import Model
from gateway.sample import Options
from gateway.settings import Settings
from services.editing.canvas import Canvas, Margins
from services.editing.pictures import (
    PictureLimits,
    Pixels,
    centre_square,
    flattened,
    read_hole,
    read_picture,
    rgb,
)
from services.wire.errors import InvalidInput
from unclip.v1 import image_service_pb2 as pb

T = TypeVar("T")
MAX_REQUEST_ID = 128


class Validation:
    """Checks one request. ``problem`` collects what is wrong; ``finish`` raises it all as one InvalidInput."""

    def __init__(self, settings: Settings, model: Model) -> None:
        self._settings, self._model = settings, model
        self._problems: list[tuple[str, str]] = []
        self._limits = PictureLimits(settings.max_picture_bytes, settings.max_picture_pixels)

    def problem(self, field: str, text: str) -> None:
        """Note that a field is not what is allowed."""
        self._problems.append((field, text))

    def finish(self) -> None:
        """Raise InvalidInput with every problem, if there is any."""
        if self._problems:
            raise InvalidInput(violations=self._problems)

    def _attempt(self, work: Callable[[], T]) -> T | None:
        """Run a check that raises; note what it raised."""
        try:
            return work()
        except InvalidInput as error:
            self._problems.extend(error.violations)
            return None

    def generate(self, request: pb.GenerateRequest) -> Generate:
        """A checked Generate request."""
        self._prompt("prompt", request.prompt)
        size, options = self._size(request.size), self._options(request.options)
        request_id = self.request_id(request.request_id)
        self.finish()
        return Generate(options, request_id, request.prompt, size)

    def inpaint(self, request: pb.InpaintRequest) -> Paint:
        """A checked Inpaint request, its picture and mask decoded into a canvas."""
        self._prompt("prompt", request.prompt)
        options, request_id = self._options(request.options), self.request_id(request.request_id)
        size = self._size(request.size) if request.size else 0
        canvas = self._attempt(lambda: self._with_hole(request))
        self.finish()
        assert canvas is not None
        return Paint(
            options, request_id, request.prompt, canvas.scaled(size) if size else canvas, self._model.sizes
        )

    def outpaint(self, request: pb.OutpaintRequest) -> Paint:
        """A checked Outpaint request, its picture on a canvas with room around it."""
        self._prompt("prompt", request.prompt)
        options, request_id = self._options(request.options), self.request_id(request.request_id)
        canvas = self._attempt(lambda: self._extended(request))
        self.finish()
        assert canvas is not None
        return Paint(options, request_id, request.prompt, canvas, self._model.sizes)

    def vary(self, request: pb.VaryRequest) -> Vary:
        """A checked Vary request."""
        similarity = request.similarity if request.HasField("similarity") else self._model.decoder.similarity
        self._in_range("similarity", similarity, 0, 1)
        size, options = self._size(request.size), self._options(request.options)
        request_id = self.request_id(request.request_id)
        picture = self._attempt(
            lambda: centre_square(read_picture(request.picture, "picture", self._limits), size)
        )
        self.finish()
        assert picture is not None
        return Vary(options, request_id, picture, similarity, size)

    def stream(self, request: pb.StreamRequest) -> FlowRequest:
        """Whichever of the four it carries, checked."""
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidInput("request", "is required: generate, inpaint, outpaint or vary")
        flow: FlowRequest = getattr(self, kind)(getattr(request, kind))
        return flow

    def rank(self, request: pb.RankCaptionsRequest) -> Pixels:
        """A checked RankCaptions request's picture."""
        if not 2 <= len(request.captions) <= self._settings.max_captions:
            self.problem(
                "captions",
                f"has {len(request.captions)}; from 2 to {self._settings.max_captions} are allowed",
            )
        for i, caption in enumerate(request.captions):
            self._prompt(f"captions[{i}]", caption)
        return self.picture(request.picture)

    def embed_text(self, request: pb.EmbedTextRequest) -> str:
        """A checked EmbedText request's id."""
        self._prompt("text", request.text)
        return self.identified(request.request_id)

    def identified(self, given: str) -> str:
        """The request's id, after everything else about the request was checked."""
        request_id = self.request_id(given)
        self.finish()
        return request_id

    def picture(self, data: bytes) -> Pixels:
        """A checked picture, flattened on white."""
        picture = self._attempt(lambda: np.asarray(flattened(read_picture(data, "picture", self._limits))))
        self.finish()
        assert picture is not None
        return picture

    def request_id(self, given: str) -> str:
        """The caller's id, or a drawn one."""
        if len(given) > MAX_REQUEST_ID or not given.isprintable():
            self.problem("request_id", f"must be printable and at most {MAX_REQUEST_ID} characters")
        return given or uuid.uuid4().hex

    def _with_hole(self, request: pb.InpaintRequest) -> Canvas:
        picture = read_picture(request.picture, "picture", self._limits)
        self._require_paintable("picture", picture.width, picture.height)
        return Canvas(rgb(picture), read_hole(request.mask, picture, self._limits))

    def _extended(self, request: pb.OutpaintRequest) -> Canvas:
        added = Margins(
            request.margins.left, request.margins.top, request.margins.right, request.margins.bottom
        )
        if not any((added.left, added.top, added.right, added.bottom)):
            raise InvalidInput("margins", "extends no side; at least one must be more than 0")
        picture = read_picture(request.picture, "picture", self._limits)
        width, height = picture.width + added.left + added.right, picture.height + added.top + added.bottom
        if width * height > self._limits.max_pixels:
            raise InvalidInput(
                "margins", f"makes {width} x {height}; at most {self._limits.max_pixels} pixels are allowed"
            )
        self._require_paintable("margins", width, height)
        return Canvas.extended(np.asarray(flattened(picture)), added)

    def _require_paintable(self, field: str, width: int, height: int) -> None:
        most = self._settings.max_aspect_ratio
        if max(width, height) > most * min(width, height):
            raise InvalidInput(
                field, f"makes {width} x {height}; one side may be at most {most:g} times the other"
            )

    def _prompt(self, field: str, text: str) -> None:
        most = self._settings.max_prompt_characters
        if not text.strip():
            self.problem(field, "is empty; say what the picture shows")
        elif len(text) > most:
            self.problem(field, f"has {len(text)} characters; at most {most} are allowed")

    def _size(self, size: int) -> int:
        sizes = self._model.sizes
        if size and size not in sizes:
            self.problem("size", f"is {size}; allowed are {', '.join(map(str, sizes))}")
        return size or self._model.decoder.size

    def _options(self, given: pb.SamplingOptions) -> Options:
        settings, prior, decoder = self._settings, self._model.prior, self._model.decoder

        present = {field.name for field, _ in given.ListFields()}

        def value(field: str, default: float, low: float, high: float) -> float:
            found = getattr(given, field) if field in present else default
            self._in_range(f"options.{field}", found, low, high)
            return found

        return Options(
            n=int(value("n", 1, 1, settings.max_n)),
            seed=given.seed if given.HasField("seed") else secrets.randbits(32),
            prior_steps=int(value("prior_steps", prior.steps, 1, settings.max_steps)),
            prior_guidance=value("prior_guidance", prior.guidance, 0, settings.max_guidance),
            decoder_steps=int(value("decoder_steps", decoder.steps, 1, settings.max_steps)),
            decoder_guidance=value("decoder_guidance", decoder.guidance, 0, settings.max_guidance),
            upsampler_steps=int(value("upsampler_steps", decoder.upsampler_steps, 1, settings.max_steps)),
            prior_candidates=int(
                value("prior_candidates", prior.candidates, 1, settings.max_prior_candidates)
            ),
            preview_interval=given.preview_interval,
        )

    def _in_range(self, field: str, value: float, low: float, high: float) -> None:
        # A NaN is in no range.
        if not low <= value <= high:
            self.problem(field, f"is {value:g}; it must be from {low:g} to {high:g}")
