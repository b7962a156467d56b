"""The gateway's process: a grpc.aio server with health and reflection, beside the four stages it watches."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from gateway import metrics
from gateway.calls import FLOWS, Observed
from gateway.malformed import MalformedRequests
from gateway.model import ModelWatch
from gateway.servicer import ImageServicer
from gateway.settings import Settings, UnknownSetting, load_settings
from gateway.stages import Stages
from services.telemetry import logs, tracing
from unclip.v1 import image_service_pb2, image_service_pb2_grpc

logger = logging.getLogger(__name__)
SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
# Healthy while the process answers, whatever its stages do: for a liveness probe.
LIVE = "live"
# Besides pictures and masks a request holds little.
OVERHEAD_BYTES = 2**20


class PortTaken(Exception):
    """The address cannot be listened on; the message names the port and the setting that changes it."""


class Gateway:
    """A running gateway. ``port`` is the one it listens on (drawn by the system if the setting is 0)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stages = Stages.connect(settings)
        metrics.show_zeros(FLOWS, [stage.name for stage in self._stages.all])
        self._watch = ModelWatch(self._stages, settings.sleeping_stages)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(Observed(settings.log_prompts), MalformedRequests()),
            maximum_concurrent_rpcs=settings.max_requests,
            options=(
                ("grpc.max_receive_message_length", 2 * settings.max_picture_bytes + OVERHEAD_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ),
        )
        self._watching: asyncio.Task[None] | None = None
        self._stop_metrics: Callable[[], None] = lambda: None
        self.port = settings.port

    async def start(self) -> None:
        """Listen, and start watching the stages. Raises PortTaken."""
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(
            ImageServicer(self._settings, self._stages, self._watch), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise PortTaken(
                f"cannot listen on {address}: is port {self._settings.port} in use? UNCLIP_PORT and UNCLIP_HOST change it"
            ) from None
        self._serve_metrics()
        await self._set_health(False)
        await self._health.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        self._watching = asyncio.create_task(self._keep_watching())

    def _serve_metrics(self) -> None:
        settings = self._settings
        if not settings.metrics_port:
            return
        try:
            self._stop_metrics = metrics.serve_metrics(settings.host, settings.metrics_port)
        except OSError:
            raise PortTaken(
                f"cannot serve metrics: is port {settings.metrics_port} in use? UNCLIP_METRICS_PORT changes it"
            ) from None

    async def _keep_watching(self) -> None:
        before: tuple[str, ...] | None = None
        while True:
            healthy = await self._watch.look()
            await self._set_health(healthy)
            if self._watch.down != before:
                logger.info(
                    "all stages answer" if healthy else f"not answering: {', '.join(self._watch.down)}"
                )
                before = self._watch.down
            await asyncio.sleep(self._settings.health_interval)

    async def _set_health(self, healthy: bool) -> None:
        status = (
            health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those running ``grace`` seconds, then close."""
        await self._health.enter_graceful_shutdown()
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(grace)
        await self._stages.close()
        self._stop_metrics()


async def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM."""
    gateway, stopping = Gateway(settings), asyncio.Event()
    await gateway.start()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    logger.info("listening on %s:%d", settings.host, gateway.port)
    await stopping.wait()
    await gateway.stop(settings.stop_grace)


def main() -> None:
    """``python -m gateway.server``; settings come from the environment."""
    try:
        settings = load_settings()
        logs.configure(settings.log_format)
        tracing.export_spans("unclip-gateway")
        asyncio.run(serve(settings))
    except (PortTaken, UnknownSetting, ValidationError) as error:
        sys.exit(f"gateway: {error}")


if __name__ == "__main__":
    main()
