"""Requests from the wire to flows; everything wrong with one is told at once, before anything is decoded."""

from __future__ import annotations

import secrets
import uuid

from gateway.flows.flow import Options, Output
from gateway.flows.generate import Generate
from gateway.flows.paint import Inpaint, Outpaint
from gateway.flows.vary import Vary
from gateway.readiness import Model
from gateway.settings import Settings, held_bytes
from gateway.stages.budget import Priority
from services.editing.canvas import Margins, scaled_size
from services.editing.errors import PictureError
from services.editing.masks import MaskKind
from services.editing.pictures import Header, OutputFormat, read_header
from services.wire.errors import InvalidInput
from unclip.v1 import image_service_pb2 as pb

MAX_REQUEST_ID = 128
FORMATS: dict[int, OutputFormat] = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: "PNG",
    pb.OUTPUT_FORMAT_PNG: "PNG",
    pb.OUTPUT_FORMAT_WEBP: "WEBP",
    pb.OUTPUT_FORMAT_JPEG: "JPEG",
}
MASK_KINDS: dict[int, MaskKind] = {
    pb.MASK_KIND_UNSPECIFIED: "any",
    pb.MASK_KIND_ALPHA: "alpha",
    pb.MASK_KIND_LUMINANCE: "luminance",
}
PRIORITIES: dict[int, Priority] = {
    pb.PRIORITY_UNSPECIFIED: "interactive",
    pb.PRIORITY_INTERACTIVE: "interactive",
    pb.PRIORITY_BATCH: "batch",
}
FlowMessage = pb.GenerateRequest | pb.InpaintRequest | pb.OutpaintRequest | pb.VaryRequest
DrawingFlow = Generate | Inpaint | Outpaint | Vary


class Checks:
    """Checks of single fields.

    ``problem`` notes what is wrong; ``finish`` raises it all as one InvalidInput.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._problems: list[tuple[str, str]] = []

    def problem(self, field: str, text: str) -> None:
        """Note that a field is not what is allowed."""
        self._problems.append((field, text))

    def finish(self) -> None:
        """Raise InvalidInput with every problem, if there is any."""
        if self._problems:
            raise InvalidInput(*self._problems)

    def text(self, field: str, text: str) -> None:
        """A text that says something, and not too much."""
        most = self._settings.max_prompt_characters
        if not text.strip():
            self.problem(field, "is empty; say what the picture shows")
        elif len(text) > most:
            self.problem(field, f"has {len(text)} characters; at most {most} are allowed")

    def request_id(self, given: str) -> str:
        """The caller's id, or a drawn one."""
        if len(given) > MAX_REQUEST_ID or not given.isprintable():
            self.problem("request_id", f"must be printable and at most {MAX_REQUEST_ID} characters")
        return given or uuid.uuid4().hex

    def picture(self, field: str, data: bytes, *, reducible: bool = False) -> Header | None:
        """A picture's header, if it can be used."""
        try:
            return read_header(data, self._settings.picture_limits, reducible=reducible)
        except PictureError as error:
            self.problem(field, str(error))
            return None

    def in_range(self, field: str, value: float, low: float, high: float) -> None:
        """A number between two others. A NaN is in no range."""
        if not low <= value <= high:
            self.problem(field, f"is {value:g}; it must be from {low:g} to {high:g}")

    def pixels(self, field: str, width: int, height: int) -> None:
        """The size of a result."""
        most = self._settings.max_picture_pixels
        longest = self._settings.max_aspect_ratio
        if width * height > most:
            self.problem(field, f"makes {width} x {height}; at most {most} pixels are allowed")
        elif max(width, height) > longest * min(width, height):
            self.problem(
                field, f"makes {width} x {height}; one side may be at most {longest:g} times the other"
            )


class FlowChecks(Checks):
    """Checks of requests for pictures, and their defaults, against the model that is served."""

    def __init__(self, settings: Settings, model: Model) -> None:
        super().__init__(settings)
        self._model = model

    def flow(self, request: FlowMessage) -> DrawingFlow:
        """The flow that a message asks for. Raises InvalidInput."""
        if isinstance(request, pb.GenerateRequest):
            return self._generate(request)
        if isinstance(request, pb.InpaintRequest):
            return self._inpaint(request)
        if isinstance(request, pb.OutpaintRequest):
            return self._outpaint(request)
        return self._vary(request)

    def _generate(self, request: pb.GenerateRequest) -> Generate:
        self.text("prompt", request.prompt)
        size = self._size(request.size)
        options = self._options(request.options)
        output = self._output(request.output)
        request_id = self.request_id(request.request_id)
        held = held_bytes(0, 0, self._results(options.n, size, size))
        self.finish()
        return Generate(options, output, request_id, self._model.sizes, request.prompt, size, held_bytes=held)

    def _inpaint(self, request: pb.InpaintRequest) -> Inpaint:
        self.text("prompt", request.prompt)
        options = self._options(request.options)
        output = self._output(request.output)
        request_id = self.request_id(request.request_id)
        if request.size:
            self._size(request.size)
        header = self.picture("picture", request.picture)
        mask = self._mask(request, header)
        if request.mask_kind not in MASK_KINDS:
            self.problem("mask_kind", f"is {request.mask_kind}; see MaskKind for what is allowed")
        width, height = (header.width, header.height) if header else (1, 1)
        if header and request.size in range(1, self._model.sizes[-1] + 1):
            width, height = scaled_size(width, height, request.size)
        if header:
            self.pixels("size" if request.size else "picture", width, height)
        results = self._results(options.n, width, height)
        self.finish()
        assert header is not None
        held = held_bytes(header.pixels + (mask.pixels if mask else 0), width * height, results)
        return Inpaint(
            options=options,
            output=output,
            request_id=request_id,
            sizes=self._model.sizes,
            prompt=request.prompt,
            picture=request.picture,
            header=header,
            max_frames=self._settings.max_frames,
            mask=request.mask,
            mask_header=mask,
            mask_kind=MASK_KINDS[request.mask_kind],
            size=request.size,
            held_bytes=held,
        )

    def _outpaint(self, request: pb.OutpaintRequest) -> Outpaint:
        self.text("prompt", request.prompt)
        options = self._options(request.options)
        output = self._output(request.output)
        request_id = self.request_id(request.request_id)
        given = request.margins
        margins = Margins(given.left, given.top, given.right, given.bottom)
        header = self.picture("picture", request.picture)
        width, height = (header.width, header.height) if header else (1, 1)
        width += margins.left + margins.right
        height += margins.top + margins.bottom
        if not any((margins.left, margins.top, margins.right, margins.bottom)):
            self.problem("margins", "extends no side; at least one must be more than 0")
        elif header:
            self.pixels("margins", width, height)
        results = self._results(options.n, width, height)
        self.finish()
        assert header is not None
        held = held_bytes(header.pixels, width * height, results)
        return Outpaint(
            options=options,
            output=output,
            request_id=request_id,
            sizes=self._model.sizes,
            prompt=request.prompt,
            picture=request.picture,
            header=header,
            max_frames=self._settings.max_frames,
            margins=margins,
            held_bytes=held,
        )

    def _vary(self, request: pb.VaryRequest) -> Vary:
        size = self._size(request.size)
        options = self._options(request.options)
        output = self._output(request.output)
        request_id = self.request_id(request.request_id)
        default = self._model.decoder.similarity
        similarity = request.similarity if request.HasField("similarity") else default
        self.in_range("similarity", similarity, 0, 1)
        header = self.picture("picture", request.picture, reducible=True)
        results = self._results(options.n, size, size)
        self.finish()
        assert header is not None
        held = held_bytes(header.pixels, 0, results)
        sizes = self._model.sizes
        return Vary(
            options, output, request_id, sizes, request.picture, header, similarity, size, held_bytes=held
        )

    def _results(self, n: int, width: int, height: int) -> int:
        """Pixels of all pictures of the answer."""
        most = self._settings.max_result_pixels
        pixels = n * width * height
        if 1 < n <= self._settings.max_n and pixels > most:
            self.problem("options.n", f"{n} pictures have {pixels} pixels; at most {most} are allowed in all")
        return pixels

    def _mask(self, request: pb.InpaintRequest, picture: Header | None) -> Header | None:
        if not request.mask:
            return None
        mask = self.picture("mask", request.mask)
        if mask and picture and (mask.width, mask.height) != (picture.width, picture.height):
            wanted = f"{picture.width} x {picture.height}, as the picture is"
            self.problem("mask", f"is {mask.width} x {mask.height}; it must be {wanted}")
        return mask

    def _size(self, size: int) -> int:
        largest = self._model.sizes[-1]
        if size > largest:
            self.problem("size", f"is {size}; at most {largest} is allowed")
        return min(size, largest) or self._model.decoder.size

    def _output(self, given: pb.Output) -> Output:
        quality = given.quality if given.HasField("quality") else Output.quality
        self.in_range("output.quality", quality, 1, 100)
        if given.format not in FORMATS:
            self.problem("output.format", f"is {given.format}; see OutputFormat for what is allowed")
        return Output(FORMATS.get(given.format, "PNG"), quality)

    def _options(self, given: pb.SamplingOptions) -> Options:
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

        if given.negative_prompt:
            self.text("options.negative_prompt", given.negative_prompt)
        if given.priority not in PRIORITIES:
            self.problem("options.priority", f"is {given.priority}; see Priority for what is allowed")
        guidance = settings.max_guidance
        steps = settings.max_steps
        return Options(
            n=int(value("n", 1, 1, settings.max_n)),
            seed=given.seed if given.HasField("seed") else secrets.randbits(32),
            prior_steps=int(value("prior_steps", prior.steps, 1, steps)),
            prior_guidance=value("prior_guidance", prior.guidance, 0, guidance),
            decoder_steps=int(value("decoder_steps", decoder.steps, 1, steps)),
            decoder_guidance=value("decoder_guidance", decoder.guidance, 0, guidance),
            upsampler_steps=int(value("upsampler_steps", decoder.upsampler_steps, 1, steps)),
            prior_candidates=int(
                value("prior_candidates", prior.candidates, 1, settings.max_prior_candidates)
            ),
            preview_interval=given.preview_interval,
            negative_prompt=given.negative_prompt,
            priority=PRIORITIES.get(given.priority, "interactive"),
        )
