"""What the public service does, whichever door a request comes through.

Everything wrong with a request is found before any stage works. What is raised becomes a status at the door.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Any

from gateway import convert, metrics
from gateway.admission import Admission
from gateway.calls import identify, note, require, tell, tenant
from gateway.checks import Checks
from gateway.content import ContentRules
from gateway.events import Drawn, Indexed, Warned, text_cut
from gateway.flows.flow import Flow, decode
from gateway.flows.rank import rank_captions
from gateway.memory import held_bytes
from gateway.pacing import Pacing
from gateway.places import Places
from gateway.provenance import Signer
from gateway.quotas import Quotas, headers_of
from gateway.readiness import Model, StageWatch
from gateway.settings import Settings
from gateway.stages import Stages
from gateway.stages.budget import Budget, Priority
from gateway.stages.text_encoder import normalised
from gateway.threads import HEADERS, in_thread
from gateway.validation import FlowChecks, FlowMessage
from services.editing.pictures import Header, Pixels, flattened, rgb
from services.wire.stages import StageName
from unclip.v1 import image_service_pb2 as pb


class Images:
    """Checks one model's requests, admits them, and runs their flows.

    time_left: seconds, or None without a deadline.
    """

    def __init__(
        self,
        settings: Settings,
        stages: Stages,
        watch: StageWatch,
        admission: Admission,
        pacing: Pacing,
        places: Places,
        quotas: Quotas,
        rules: ContentRules,
        signer: Signer | None,
    ) -> None:
        self.settings = settings
        self.watch = watch
        self.admission = admission
        self.pacing = pacing
        self.signer = signer
        self._stages = stages
        self._places = places
        self._quotas = quotas
        self._rules = rules

    @property
    def name(self) -> str:
        """The model's."""
        return self.watch.name

    def at_work(self) -> bool:
        """Whether requests are under way, or wait for their tenant's quota."""
        return self.admission.at_work or self.pacing.waits

    @property
    def ready(self) -> bool:
        """Whether the model is known, so that requests can be checked."""
        return self.watch.knows_model

    @staticmethod
    def require_allowed(request: FlowMessage) -> None:
        """Raises Forbidden if the caller may not ask for this."""
        require("edit" if isinstance(request, pb.InpaintRequest | pb.OutpaintRequest) else "generate")

    async def checked(self, request: FlowMessage) -> tuple[Flow, Model]:
        """The flow that a message asks for, and the model it is for. Raises InvalidInput, and Forbidden."""
        self.require_allowed(request)
        if self.signer is not None:
            await in_thread(self.signer.require_valid, pool=HEADERS)
        needed: tuple[StageName, ...] = ("prior",) if _needs_prior(request) else ()
        model = await self.watch.model(*needed)
        checks = FlowChecks(self.settings, model, self._rules)
        if isinstance(request, pb.GenerateRequest):  # without a file, whose header takes a while to check
            return checks.flow(request), model
        return await in_thread(checks.flow, request, pool=HEADERS), model

    async def events(self, flow: Flow, time_left: float | None, size: int) -> AsyncGenerator[Indexed, None]:
        """Run a flow that may start. Leaving early cancels its work.

        size: the bytes of its message.
        """
        budget = self._budget(time_left, flow.request_id, flow.options.priority)
        n = flow.options.n
        with ExitStack() as held:
            ready = await self._prepared(flow, budget, size, held)
            demands = ready.demands()
            note(pictures=ready.cost.pictures, megapixel_steps=ready.cost.megapixel_steps)
            async with self._quotas.spending(tenant(), ready.cost) as spending:
                tell(headers_of(spending.left))
                budget.lags(spending.lag)
                if self.pacing.holds_back(demands, budget):
                    slack = self.admission.check(demands, n, budget)
                    del ready
                    held.close()  # its bytes are others' while it waits
                    await self.pacing.turn(demands, budget, slack)
                    ready = await self._prepared(flow, budget, size, held)
                with self.admission.admitted(demands, n, budget) as ticket:
                    for warned in flow.options.warnings:
                        yield 0, warned
                    async with aclosing(ready.run(self._stages, budget, ticket.observe)) as events:
                        async for index, event in events:
                            if isinstance(event, Drawn):
                                spending.used = True
                                self._measure(event)
                            if (judged := await self._rules.judged(index, event)) is not None:
                                yield index, judged

    async def _prepared(self, flow: Flow, budget: Budget, size: int, held: ExitStack) -> Flow:
        """A flow that may start, with what has to be known of it; its bytes are ``held``."""
        held.enter_context(self._places.holding(flow.held_bytes, own=2 * size))
        self.admission.check(flow.demands(), flow.options.n, budget)
        return await flow.prepared()

    async def rank(self, request: pb.RankCaptionsRequest, time_left: float | None) -> pb.RankCaptionsResponse:
        """Order captions by how well they fit a picture."""
        require("embed")
        checks = Checks(self.settings)
        most = self.settings.max_captions
        if not 2 <= len(request.captions) <= most:
            checks.problem("captions", f"has {len(request.captions)}; from 2 to {most} are allowed")
        else:
            for i, caption in enumerate(request.captions):
                checks.text(f"captions[{i}]", caption)
        header, request_id = await self._header(checks, request)
        budget = self._budget(time_left, request_id)
        with self._places.holding(held_bytes(header.pixels, 0, 0), 2 * request.ByteSize()):
            pixels = await in_thread(_on_white, request.picture, header)
            ranked, cut = await rank_captions(pixels, list(request.captions), self._stages, budget)
        captions = [
            pb.RankedCaption(caption=r.caption, probability=r.probability, index=r.index) for r in ranked
        ]
        return pb.RankCaptionsResponse(captions=captions, request_id=request_id, warnings=_messages(cut))

    async def embed_text(self, request: pb.EmbedTextRequest, time_left: float | None) -> pb.EmbedTextResponse:
        """Embed a text."""
        require("embed")
        checks = Checks(self.settings)
        checks.text("text", request.text)
        request_id = checks.request_id(request.request_id)
        checks.finish()
        texts = await self._stages.text_encoder.embed([request.text], self._budget(time_left, request_id))
        cut = [text_cut("text", word) for word in texts.last_words_read if word]
        return pb.EmbedTextResponse(
            embedding=texts.embeddings[0].tolist(), request_id=request_id, warnings=_messages(cut)
        )

    async def embed_image(
        self, request: pb.EmbedImageRequest, time_left: float | None
    ) -> pb.EmbedImageResponse:
        """Embed a picture."""
        require("embed")
        checks = Checks(self.settings)
        header, request_id = await self._header(checks, request)
        budget = self._budget(time_left, request_id)
        with self._places.holding(held_bytes(header.pixels, 0, 0), 2 * request.ByteSize()):
            pixels = await in_thread(_on_white, request.picture, header)
            embedding = await self._stages.image_encoder.encode(pixels, budget)
        return pb.EmbedImageResponse(embedding=normalised(embedding).tolist(), request_id=request_id)

    async def facts(self) -> pb.GetModelResponse:
        """As ``model``, but what only the prior tells may be missing."""
        return convert.to_model(await self.watch.model(), self.settings)

    async def model(self) -> pb.GetModelResponse:
        """What is served, its limits and defaults."""
        return convert.to_model(await self.watch.model("prior"), self.settings)

    def _measure(self, drawn: Drawn) -> None:
        for step, spent in drawn.seconds.items():
            metrics.stage_seconds.labels(self.name, step).observe(spent)

    def _budget(self, time_left: float | None, request_id: str, priority: Priority = "interactive") -> Budget:
        identify(request_id)
        most = self.settings.request_timeout
        is_deadline = time_left is not None and time_left < most
        seconds = most if time_left is None else min(time_left, most)
        return Budget(seconds, request_id, priority, is_deadline)

    async def _header(
        self, checks: Checks, request: pb.RankCaptionsRequest | pb.EmbedImageRequest
    ) -> tuple[Header, str]:
        """The checked header of a picture that is only looked at, and the request's id."""

        def check() -> tuple[Header | None, str]:
            header = checks.picture("picture", request.picture, reducible=True)
            return header, checks.request_id(request.request_id)

        header, request_id = await in_thread(check, pool=HEADERS)
        checks.finish()
        assert header is not None
        return header, request_id


def _needs_prior(request: FlowMessage) -> bool:
    if isinstance(request, pb.MixRequest):
        return any(source.HasField("prompt") for source in request.sources)
    if isinstance(request, pb.InterpolateRequest):
        return request.start.HasField("prompt") or request.end.HasField("prompt")
    return not isinstance(request, pb.VaryRequest)


def _messages(warnings: list[Warned]) -> list[Any]:
    return [convert.to_warning(event) for event in warnings]


def _on_white(data: bytes, header: Header) -> Pixels:
    """(H, W, 3) of a picture as it looks."""
    return rgb(flattened(decode(data, header, "picture")).convert("RGBA"))
