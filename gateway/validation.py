"""Requests from the wire to flows; everything wrong with one is told at once, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.drawing_checks import DrawingChecks
from gateway.flows.generate import Generate
from gateway.flows.mix import Interpolate, Mix, Source
from gateway.flows.paint import Inpaint, Outpaint
from gateway.flows.vary import Change, Vary
from gateway.memory import held_bytes
from services.editing.canvas import Margins, scaled_size
from services.editing.masks import MaskKind
from services.editing.pictures import Header
from unclip.v1 import image_service_pb2 as pb

MASK_KINDS: dict[int, MaskKind] = {
    pb.MASK_KIND_UNSPECIFIED: "any",
    pb.MASK_KIND_ALPHA: "alpha",
    pb.MASK_KIND_LUMINANCE: "luminance",
}
MAX_SOURCES = 8
MAX_WEIGHT = 1000.0
TEXT_STRENGTH = 0.35
FlowMessage = (
    pb.GenerateRequest
    | pb.InpaintRequest
    | pb.OutpaintRequest
    | pb.VaryRequest
    | pb.MixRequest
    | pb.InterpolateRequest
)
DrawingFlow = Generate | Inpaint | Outpaint | Vary | Mix | Interpolate


class FlowChecks(DrawingChecks):
    """Checks of requests for pictures, one method a flow."""

    def flow(self, request: FlowMessage) -> DrawingFlow:
        """The flow that a message asks for. Raises InvalidInput."""
        if isinstance(request, pb.GenerateRequest):
            return self._generate(request)
        if isinstance(request, pb.InpaintRequest):
            return self._inpaint(request)
        if isinstance(request, pb.OutpaintRequest):
            return self._outpaint(request)
        if isinstance(request, pb.VaryRequest):
            return self._vary(request)
        if isinstance(request, pb.MixRequest):
            return self._mix(request)
        return self._interpolate(request)

    def _generate(self, request: pb.GenerateRequest) -> Generate:
        self.prompt("prompt", request.prompt)
        shape = self.shape(request)
        options = self.options(request.options)
        output = self.output(request.output)
        request_id = self.request_id(request.request_id)
        held = held_bytes(0, 0, self.results(options.n, *shape))
        self.finish()
        return Generate(
            options, output, request_id, self._model.sizes, request.prompt, shape, held_bytes=held
        )

    def _inpaint(self, request: pb.InpaintRequest) -> Inpaint:
        self.prompt("prompt", request.prompt)
        options = self.options(request.options)
        output = self.output(request.output)
        request_id = self.request_id(request.request_id)
        if request.size:
            self.size(request.size)
        header = self.picture("picture", request.picture)
        mask = self._mask(request, header)
        if request.mask_kind not in MASK_KINDS:
            self.problem("mask_kind", f"is {request.mask_kind}; see MaskKind for what is allowed")
        width, height = (header.width, header.height) if header else (1, 1)
        if header and request.size in range(1, self._model.sizes.largest + 1):
            width, height = scaled_size(width, height, request.size)
        if header:
            self.pixels("size" if request.size else "picture", width, height)
        results = self.results(options.n, width, height)
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
        self.prompt("prompt", request.prompt)
        options = self.options(request.options)
        output = self.output(request.output)
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
        results = self.results(options.n, width, height)
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
        shape = self.shape(request)
        options = self.options(request.options)
        output = self.output(request.output)
        request_id = self.request_id(request.request_id)
        default = self._model.decoder.similarity
        similarity = request.similarity if request.HasField("similarity") else default
        self.in_range("similarity", similarity, 0, 1)
        header = self.picture("picture", request.picture, reducible=True)
        change = self._change(request)
        results = self.results(options.n, *shape)
        self.finish()
        assert header is not None
        return Vary(
            options=options,
            output=output,
            request_id=request_id,
            sizes=self._model.sizes,
            picture=request.picture,
            header=header,
            similarity=similarity,
            shape=shape,
            change=change,
            held_bytes=held_bytes(header.pixels, 0, results),
        )

    def _change(self, request: pb.VaryRequest) -> Change | None:
        if not request.from_text and not request.to_text:
            if request.HasField("text_strength"):
                self.problem("text_strength", "needs from_text and to_text")
            return None
        self.text("from_text", request.from_text)
        self.prompt("to_text", request.to_text)
        strength = request.text_strength if request.HasField("text_strength") else TEXT_STRENGTH
        self.in_range("text_strength", strength, 0, 1)
        return Change(request.from_text, request.to_text, strength)

    def _mix(self, request: pb.MixRequest) -> Mix:
        shape = self.shape(request)
        options = self.options(request.options)
        output = self.output(request.output)
        request_id = self.request_id(request.request_id)
        sources: list[Source] = []
        if 2 <= len(request.sources) <= MAX_SOURCES:
            sources = [self._source(f"sources[{i}]", source) for i, source in enumerate(request.sources)]
        else:
            self.problem("sources", f"has {len(request.sources)}; from 2 to {MAX_SOURCES} are allowed")
        shares = self._shares(request)
        results = self.results(options.n, *shape)
        self.finish()
        return Mix(
            options=options,
            output=output,
            request_id=request_id,
            sizes=self._model.sizes,
            sources=tuple(sources),
            shape=shape,
            shares=shares,
            held_bytes=held_bytes(_pixels(sources), 0, results),
        )

    def _interpolate(self, request: pb.InterpolateRequest) -> Interpolate:
        shape = self.shape(request)
        options = self.options(request.options)
        output = self.output(request.output)
        request_id = self.request_id(request.request_id)
        self.in_range("frames", request.frames, 2, self._settings.max_n)
        if request.options.HasField("n"):
            self.problem("options.n", "has no meaning here; frames says how many pictures there are")
        sources = [self._source("start", request.start), self._source("end", request.end)]
        options = replace(options, n=request.frames)
        results = self.results(options.n, *shape)
        self.finish()
        return Interpolate(
            options=options,
            output=output,
            request_id=request_id,
            sizes=self._model.sizes,
            sources=tuple(sources),
            shape=shape,
            held_bytes=held_bytes(_pixels(sources), 0, results),
        )

    def _source(self, field: str, source: pb.Source) -> Source:
        kind = source.WhichOneof("source")
        if kind == "prompt":
            self.prompt(f"{field}.prompt", source.prompt)
            return Source(f"{field}.prompt", prompt=source.prompt)
        if kind is None:
            self.problem(field, "is empty; it must be a picture or a prompt")
            return Source(field)
        header = self.picture(f"{field}.picture", source.picture, reducible=True)
        return Source(f"{field}.picture", picture=source.picture, header=header)

    def _shares(self, request: pb.MixRequest) -> tuple[float, ...]:
        weights = tuple(request.weights) or (1.0,) * len(request.sources)
        if len(weights) != len(request.sources):
            self.problem("weights", f"has {len(weights)}; as many as sources are allowed, or none")
        elif not all(0 <= weight <= MAX_WEIGHT for weight in weights):
            self.problem("weights", f"must each be from 0 to {MAX_WEIGHT:g}")
        elif not any(weights):
            self.problem("weights", "are all 0; at least one must be more")
        return weights

    def _mask(self, request: pb.InpaintRequest, picture: Header | None) -> Header | None:
        if not request.mask:
            return None
        mask = self.picture("mask", request.mask)
        if mask and picture and (mask.width, mask.height) != (picture.width, picture.height):
            wanted = f"{picture.width} x {picture.height}, as the picture is"
            self.problem("mask", f"is {mask.width} x {mask.height}; it must be {wanted}")
        return mask


def _pixels(sources: Sequence[Source]) -> int:
    """Of the largest picture; they are decoded one after another."""
    return max((source.header.pixels for source in sources if source.header), default=0)
