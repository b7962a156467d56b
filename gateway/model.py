"""What is served, as the stages describe it: the model's name and version, its sizes, what absent options mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from gateway import metrics
from gateway.stages import Stage, Stages
from services.wire.errors import StageUnavailable
from unclip.internal.v1 import stage_service_pb2

logger = logging.getLogger(__name__)
DESCRIBING = ("prior", "decoder")  # whose descriptions make up the model
Description = stage_service_pb2.DescribeResponse


@dataclass(frozen=True)
class Model:
    """The model behind the four stages. ``sizes``: sides of square pictures in px, smallest first."""

    name: str
    version: str
    sizes: tuple[int, ...]
    prior: stage_service_pb2.SamplingDefaults
    decoder: stage_service_pb2.SamplingDefaults
    licences: tuple[stage_service_pb2.LicenceNotice, ...]


class ModelWatch:
    """Looks at all stages now and then, without waking those that may sleep; remembers the model, and which stages answered last."""

    def __init__(self, stages: Stages, sleeping: Collection[str] = ()) -> None:
        self._stages, self._sleeping = stages, sleeping
        self._remembered: dict[str, Description] = {}  # of the stages that may sleep
        self._versions: set[str] = set()  # that were served at the last look
        self._model: Model | None = None
        self.down: tuple[str, ...] = tuple(stage.name for stage in stages.all)

    async def look(self) -> bool:
        """Ask every stage; whether all of them answered."""
        answers = await asyncio.gather(
            *(self._describe(stage) for stage in self._stages.all), return_exceptions=True
        )
        self.down = tuple(
            s.name for s, a in zip(self._stages.all, answers, strict=True) if isinstance(a, BaseException)
        )
        for stage in self._stages.all:
            metrics.stage_up.labels(stage.name).set(stage.name not in self.down)
        if not self.down:
            described = {
                s.name: a
                for s, a in zip(self._stages.all, answers, strict=True)
                if isinstance(a, Description)
            }
            self._compare({d.model_version for d in described.values()})
            self._serve(_combined(described))
        return not self.down

    def _compare(self, versions: set[str]) -> None:
        metrics.model_mismatch.set(len(versions) > 1)
        if len(versions) > 1:
            self._remembered.clear()  # what is remembered may be old
            if versions != self._versions:
                logger.warning(
                    "the stages serve different versions of the model: %s", ", ".join(sorted(versions))
                )
        self._versions = versions

    async def _describe(self, stage: Stage) -> Description | None:
        """What the stage says of itself. One that may sleep is not asked, but once if the model cannot be known without."""
        if stage.name not in self._sleeping:
            return await stage.describe()
        if stage.name in DESCRIBING and stage.name not in self._remembered:
            self._remembered[stage.name] = await stage.describe()
        await stage.ping()
        return self._remembered.get(stage.name)

    def _serve(self, model: Model) -> None:
        if self._model is not None and model.version != self._model.version:
            self._stages.text_encoder.forget()
        metrics.model.clear()
        metrics.model.labels(model.name, model.version).set(1)
        self._model = model

    async def model(self) -> Model:
        """The model as last seen. Raises StageUnavailable, naming the stages, if it was never seen."""
        if self._model is None and not await self.look():
            raise StageUnavailable(
                f"the {' and the '.join(self.down)} do not answer yet; try again".replace("_", " ")
            )
        assert self._model is not None
        return self._model


def _combined(described: dict[str, Description]) -> Model:
    prior, decoder = (described[name] for name in DESCRIBING)
    return Model(
        name=decoder.model_name,
        version=decoder.model_version,
        sizes=tuple(decoder.sizes),
        prior=prior.defaults,
        decoder=decoder.defaults,
        licences=tuple(decoder.licences),
    )
