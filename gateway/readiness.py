"""What is served, and by whom.

The gateway looks at its stages now and then, and is ready once it knows its model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from gateway import metrics
from gateway.sizes import Sizes
from gateway.stages import Stages
from gateway.stages.channel import StageChannel
from services.wire.errors import DeadlineMissed, Overloaded, ServiceError, StageUnavailable
from services.wire.stages import StageName, spoken
from unclip.internal.v1 import stage_service_pb2

logger = logging.getLogger(__name__)
DESCRIBING: tuple[StageName, ...] = ("prior", "decoder")  # whose descriptions make up the model
LISTEN_SECONDS = 0.25
UNASKED_SECONDS = 1.0  # at most, that no replica is asked since all have just told: there may be new ones
MOST_ASKED = 8  # replicas of a stage that one look asks
Description = stage_service_pb2.DescribeResponse


@dataclass(frozen=True)
class Model:
    """A model, as its stages describe it. name: what requests call it."""

    name: str
    version: str
    sizes: Sizes
    prior: stage_service_pb2.SamplingDefaults
    decoder: stage_service_pb2.SamplingDefaults
    licences: tuple[stage_service_pb2.LicenceNotice, ...]
    ignores_text: bool  # the decoder is conditioned on the image embedding alone


class StageWatch:
    """Looks at a model's stages; remembers what each said last, and which are down.

    A stage is down if its proxy does not answer, or says that there is no replica. One whose replicas are too
    busy to describe themselves in time is not. A stage that may sleep is described once, and again when
    versions differ: asking it would wake it. One that is borrowed is another model's too, whose bundle it
    has.
    """

    def __init__(
        self,
        model: str,
        stages: Stages,
        sleeping: Collection[StageName] = (),
        borrowed: Collection[StageName] = (),
    ) -> None:
        self.name = model
        self._borrowed = borrowed
        self._stages = stages
        self._sleeping = sleeping
        self._described: dict[StageName, Description] = {}
        self._asked: dict[StageName, float] = {}  # when a replica was last asked for its load
        self._fresh: set[StageName] = set()  # sleeping stages that need not be asked again
        self._looking: asyncio.Task[None] | None = None
        self._shown = ""  # the version that the metric has
        self._down: tuple[StageName, ...] = tuple(channel.name for channel in stages.channels)

    @property
    def down(self) -> tuple[StageName, ...]:
        """Stages that did not answer at the last look."""
        return self._down

    async def look(self) -> None:
        """Ask every stage, all at once."""
        channels = self._stages.channels
        answers = await asyncio.gather(*(self._ask(channel) for channel in channels))
        before = self._down
        self._down = tuple(c.name for c, up in zip(channels, answers, strict=True) if not up)
        for channel in channels:
            metrics.stage_up.labels(self.name, channel.name).set(channel.name not in self._down)
        if self._down != before:
            found = "all stages answer" if not self._down else f"not answering: {', '.join(self._down)}"
            logger.info("%s: %s", self.name, found)
        self._compare()

    async def listen(self, name: StageName) -> None:
        """Hear of a stage's load from one of its replicas, whatever becomes of that.

        None is asked if all have just told, with the steps that they take for this gateway.
        """
        backlog = self._stages.backlog(name)
        now = time.monotonic()
        asked_lately = now - self._asked.get(name, -math.inf) < UNASKED_SECONDS
        if asked_lately and backlog is not None and backlog.heard(LISTEN_SECONDS):
            return
        self._asked[name] = now
        channel = next(channel for channel in self._stages.channels if channel.name == name)
        with contextlib.suppress(ServiceError):
            self._note(name, await channel.describe())

    async def model(self, *needed: StageName) -> Model:
        """The model as last seen.

        Raises StageUnavailable if one of the needed stages was never seen, naming it.
        """
        wanted = [*needed, "decoder"]
        if any(name not in self._described for name in wanted):
            await self._look_together()
        if missing := [spoken(name) for name in wanted if name not in self._described]:
            raise StageUnavailable(
                f"the {' and the '.join(dict.fromkeys(missing))} is not available; try again"
            )
        decoder = self._described["decoder"]
        prior = self._described.get("prior", Description())
        return Model(
            name=self.name,
            version=decoder.model_version,
            sizes=Sizes(
                tuple(decoder.sizes),
                tuple(decoder.native_sizes),
                decoder.made_for,
                decoder.shape_multiple,
                decoder.defaults.guided_share or 1.0,
            ),
            prior=prior.defaults,
            decoder=decoder.defaults,
            licences=tuple(decoder.licences),
            ignores_text=decoder.ignores_text,
        )

    async def _look_together(self) -> None:
        """A look that all who wait for one share."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self.look())
        await asyncio.shield(self._looking)

    @property
    def knows_model(self) -> bool:
        """Whether requests can be checked."""
        return "decoder" in self._described

    async def _ask(self, channel: StageChannel) -> bool:
        """Whether the stage is up; its description is noted if it gives one."""
        try:
            await channel.ping()
            if self._is_asked(channel.name):
                await self._describe(channel)
        except (DeadlineMissed, Overloaded):
            return True  # busy
        except ServiceError:
            return False
        return True

    async def _describe(self, channel: StageChannel) -> None:
        """Ask some replicas at once, so that the loads of many are known soon."""
        backlog = self._stages.backlog(channel.name)
        asked = min(backlog.replicas + 1, MOST_ASKED) if backlog and backlog.known else 1
        answers = await asyncio.gather(*(channel.describe() for _ in range(asked)), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        for answer in answers:
            if not isinstance(answer, BaseException):
                self._note(channel.name, answer)
        if len(errors) == len(answers):
            raise errors[0]

    def _is_asked(self, name: StageName) -> bool:
        """Whether a replica is asked to describe itself.

        That wakes a stage that sleeps, so it is asked only if the model is made of what it says.
        """
        if name not in self._sleeping:
            return True
        return name in DESCRIBING and name not in self._fresh

    def _note(self, name: StageName, description: Description) -> None:
        self._described[name] = description
        self._fresh.add(name)
        for encoder, client in self._stages.encoders.items():
            # A sleeping encoder is not asked; a decoder of another version makes what it encoded useless.
            teller = "decoder" if encoder in self._sleeping else encoder
            if name == teller and encoder not in self._borrowed:
                client.serves(description.model_version)
        if (backlog := self._stages.backlog(name)) is not None:
            backlog.told(description.load)

    def _compare(self) -> None:
        if (decoder := self._described.get("decoder")) is None:
            return
        own = [told for stage, told in self._described.items() if stage not in self._borrowed]
        versions = {(told.model_name, told.model_version) for told in own}
        metrics.model_mismatch.labels(self.name).set(len(versions) > 1)
        if len(versions) > 1:
            self._fresh.clear()  # what a sleeping stage said may be old
        if self._shown != decoder.model_version and decoder.model_name != self.name:
            logger.warning("%s is served by the bundle %s", self.name, decoder.model_name)
        if self._shown != decoder.model_version:
            if self._shown:
                metrics.model.remove(self.name, self._shown)
            metrics.model.labels(self.name, decoder.model_version).set(1)
            self._shown = decoder.model_version


async def keep_listening(watch: StageWatch, name: StageName, at_work: Callable[[], bool]) -> None:
    """Hear of a stage's load often while this gateway is at work, since others may be, too."""
    while True:
        await asyncio.sleep(LISTEN_SECONDS)
        if at_work():
            await watch.listen(name)


async def keep_looking(watch: StageWatch, interval: float, told: Callable[[], Awaitable[None]]) -> None:
    """Look every ``interval`` seconds, for ever; ``told`` is called after each look."""
    while True:
        try:
            await watch.look()
            await told()
        except Exception:
            logger.exception("a look at the stages failed")
        await asyncio.sleep(interval)
