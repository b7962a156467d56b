"""The models that are served side by side, each with its stages, by the names that requests call them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.admission import Admission
from gateway.calls import serving
from gateway.content import ContentRules
from gateway.images import Images
from gateway.pacing import Pacing
from gateway.places import Places
from gateway.provenance import Signer
from gateway.quotas import Quotas
from gateway.readiness import StageWatch, keep_listening, keep_looking
from gateway.settings import Settings
from gateway.stages import Clients
from services.wire.errors import InvalidInput, ServiceError
from unclip.v1 import image_service_pb2 as pb


class Models:
    """All of them. ``places`` are what their requests share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.places = Places(settings.max_requests, settings.max_bytes_in_work, self._longest_wait)
        self._quotas = Quotas(
            settings.quotas,
            settings.shared_store,
            shadow=settings.quota_shadow,
            open_on_failure=settings.shared_store_open_on_failure,
        )
        self._clients = Clients(settings)
        signer = Signer.of(settings) if settings.provenance else None
        self._rules = ContentRules.of(settings)
        self._images = {name: self._made(name, signer) for name in settings.models}
        self._watching: list[asyncio.Task[None]] = []

    def _made(self, name: str, signer: Signer | None) -> Images:
        stages = self._clients.of(name)
        watch = StageWatch(name, stages, self.settings.sleeping(name), self.settings.borrowed(name))
        admission = Admission(stages.backlogs)
        # What waits never takes more than half of the places.
        waiting = max(1, self.settings.max_requests // (2 * len(self.settings.models)))
        pacing = Pacing(admission.ledgers, waiting)
        shared = (self.places, self._quotas, self._rules, signer)
        return Images(self.settings, stages, watch, admission, pacing, *shared)

    @property
    def names(self) -> tuple[str, ...]:
        """In their order; the first is the default."""
        return tuple(self._images)

    @property
    def ready(self) -> bool:
        """Whether a model is known, so that its requests can be checked."""
        return any(images.ready for images in self._images.values())

    def of(self, name: str) -> Images:
        """What does a model's work; that of the default for an empty name. Raises InvalidInput."""
        images = self._images.get(name or self.names[0])
        if images is None:
            known = ", ".join(self.names)
            raise InvalidInput(("model", f"is {name!r:.80}; it must be one of {known}, or empty"))
        serving(images.name)
        return images

    async def list(self) -> pb.ListModelsResponse:
        """What is served, and what is not there."""
        response = pb.ListModelsResponse(default_model=self.names[0])
        found = await asyncio.gather(*(i.facts() for i in self._images.values()), return_exceptions=True)
        for name, facts in zip(self._images, found, strict=True):
            if isinstance(facts, ServiceError):
                response.unavailable.append(name)
            elif isinstance(facts, BaseException):
                raise facts
            else:
                response.models.append(facts)
        return response

    def watch(self, told: Callable[[], Awaitable[None]]) -> None:
        """Look at all stages from now on; ``told`` is called after each look."""
        loops = []
        for images in self._images.values():
            loops.append(keep_looking(images.watch, self.settings.look_interval, told))
            for stage in images.admission.ledgers:
                loops.append(keep_listening(images.watch, stage, images.at_work))
        self._watching = [asyncio.create_task(loop) for loop in loops]

    def stop(self) -> None:
        """Let what waits for its tenant's quota go on."""
        for images in self._images.values():
            images.pacing.stop()

    async def close(self) -> None:
        """Look no more, and leave the stages."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._clients.close()
        await self._quotas.close()

    def _longest_wait(self) -> float:
        return max(images.admission.wait for images in self._images.values())
