"""What the four stages' Ray Serve deployments have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from ray import serve
from ray.serve import Application

from services.bundles.bundle import Bundle
from services.engine import StepEngine, Watcher
from services.engine.settings import EngineSettings
from services.serving import servicing
from services.serving.allocator import keep_freed_memory
from services.serving.autoscaling import LoadRecorder
from services.wire.stages import StageName
from unclip.internal.v1 import stage_service_pb2


def bound(deployment: Any, settings: type[BaseModel], args: Mapping[str, Any]) -> Application:
    """A stage's application, from the ``args`` of its Serve config.

    ``deployment`` among them has the options of a deployment, where no Serve config sets them.
    """
    own = {name: value for name, value in args.items() if name != "deployment"}
    application: Application = deployment.options(**args.get("deployment", {})).bind(
        settings.model_validate(own)
    )
    return application


class Stage(Protocol):
    """A stage without Ray: its networks, and its service's methods."""

    @property
    def bundle(self) -> Bundle:
        """The bundle that is served."""

    def check(self) -> None:
        """Raises an error if the replica should be replaced."""

    def describe(self) -> stage_service_pb2.DescribeResponse:
        """What is served."""


class SamplingStage(Stage, Protocol):
    """A stage with an engine."""

    @property
    def engine(self) -> StepEngine[Any]:
        """Who runs its rows."""


S = TypeVar("S", bound=Stage)
Sampling = TypeVar("Sampling", bound=SamplingStage)


class StageDeployment(Generic[S]):
    """A replica of a stage. A deployment is a subclass that says how to load its stage, and answers its
    service.

    ``load`` imports torch; nothing else does, so that an application is built without it.
    """

    name: StageName

    def _start(self) -> None:
        """Load the stage, export its spans and tell which model it serves."""
        from services.serving.metrics import show_model
        from services.telemetry.tracing import export_spans

        keep_freed_memory()
        export_spans(f"unclip-{self.name.replace('_', '-')}")
        started = time.monotonic()
        self.stage = self.load()
        show_model(self.stage.bundle.manifest, time.monotonic() - started)

    def load(self) -> S:
        """Make the stage, with its networks."""
        raise NotImplementedError

    async def check_health(self) -> None:
        """Asked for by Ray Serve now and then, which replaces the replica if this raises."""
        self.stage.check()

    @servicing.unary(stage_service_pb2.DescribeResponse)
    async def Describe(
        self, request: stage_service_pb2.DescribeRequest
    ) -> stage_service_pb2.DescribeResponse:
        """Say what is served."""
        return self.stage.describe()


class SamplingDeployment(StageDeployment[Sampling]):
    """A replica of a stage with an engine."""

    engine_settings: EngineSettings

    @cached_property
    def _recorder(self) -> LoadRecorder:
        return LoadRecorder(self.engine_settings.limits)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked for by Ray Serve now and then: what the autoscaling policy works with."""
        return self._recorder.record(self.stage.engine.load)

    @staticmethod
    def replica() -> str:
        """This replica's name among its deployment's."""
        return str(serve.get_replica_context().replica_id.unique_id)

    def watcher(self) -> Watcher:
        """What makes metrics of the engine's news."""
        from services.serving.metrics import EngineMetrics

        return EngineMetrics(self.engine_settings.limits)
