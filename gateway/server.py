"""The gateway's process: a grpc.aio server with health and reflection, in front of the four stages."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from gateway import metrics
from gateway.addresses import listening_address
from gateway.calls import FLOWS
from gateway.content import RulesUnusable
from gateway.draining import Draining
from gateway.environment import UnknownSetting, load_settings
from gateway.exporter import serve_metrics
from gateway.http.server import HttpServer
from gateway.identity import Expected, IdentityProvider
from gateway.interceptors import Chain
from gateway.models import Models
from gateway.provenance import ProvenanceError
from gateway.reading import Reading
from gateway.replays import replays_of
from gateway.servicer import ImageServicer
from gateway.settings import Settings
from gateway.tls import ServerTls, TlsUnreadable
from gateway.tokens import Authenticator
from services.telemetry import logs, tracing
from services.wire.stages import STAGES
from unclip.v1 import image_service_pb2, image_service_pb2_grpc

logger = logging.getLogger(__name__)
SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
# Healthy while the process answers, whatever its stages do: for a liveness probe.
LIVE = "live"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PortTaken(Exception):
    """The address cannot be listened on; the message names the port and the setting that changes it."""


class TokensUnreadable(Exception):
    """The file of tokens cannot be read; the message says why."""


# Why it does not start; the message says what to change.
UNFIT = (
    PortTaken,
    ProvenanceError,
    RulesUnusable,
    TlsUnreadable,
    TokensUnreadable,
    UnknownSetting,
    ValidationError,
)


class Gateway:
    """A running gateway. ``port`` is the one it listens on (drawn by the system if the setting is 0)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        metrics.show_zeros(FLOWS, settings.models, STAGES)
        self.models = Models(settings)
        self._health = health.aio.HealthServicer()
        self._draining = Draining()
        reading = Reading(settings.readers)
        self._replays = replays_of(settings)
        self._authenticator = authenticator = _authenticator(settings)
        self._tls = server_tls(settings)
        self.http = HttpServer(self.models, authenticator, reading, self._replays, settings, self._tls)
        self._servicer = ImageServicer(self.models)
        chain = Chain(self.models.places, authenticator, reading, self._replays, settings)
        self._server = grpc.aio.server(
            interceptors=(chain, self._draining), options=_server_options(settings)
        )
        self._stop_metrics: Callable[[], None] = lambda: None
        self._looking: list[asyncio.Task[None]] = []  # whether certificates and keys have changed
        self.port = settings.port

    async def start(self) -> None:
        """Listen, and start looking at the stages. Raises PortTaken."""
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(self._servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        address = listening_address(self._settings.host, self._settings.port)
        try:
            self.port = self._add_port(address)
        except RuntimeError:
            reason = f"cannot listen on {address}: is the port in use, or is this no address of this machine?"
            raise PortTaken(f"{reason} UNCLIP_PORT and UNCLIP_HOST change it") from None
        self._serve_metrics()
        await self._serve_http()
        await self._show_readiness()
        await self._health.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        self.models.watch(self._show_readiness)
        lookers = (self._tls, self._authenticator.provider)
        self._looking = [asyncio.create_task(looker.keep_looking()) for looker in lookers if looker]

    def _add_port(self, address: str) -> int:
        if self._tls:
            return self._server.add_secure_port(address, self._tls.server_credentials())
        return self._server.add_insecure_port(address)

    def _serve_metrics(self) -> None:
        settings = self._settings
        if not settings.metrics_port:
            return
        try:
            self._stop_metrics = serve_metrics(
                settings.host, settings.metrics_port, lambda: self.models.ready
            )
        except OSError:
            reason = f"cannot serve metrics: is port {settings.metrics_port} in use?"
            raise PortTaken(f"{reason} UNCLIP_METRICS_PORT changes it") from None

    async def _serve_http(self) -> None:
        if self._settings.http_port is None:
            return
        try:
            await self.http.start()
        except OSError:
            reason = f"cannot serve the Images API: is port {self._settings.http_port} in use?"
            raise PortTaken(f"{reason} UNCLIP_HTTP_PORT changes it") from None

    async def _show_readiness(self) -> None:
        """Ready means: this process takes calls and knows a model.

        A stage that is down is a matter of the requests that need it.
        """
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if self.models.ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those running ``grace`` seconds, then close.

        Watches of health keep nobody waiting.
        """
        await self._health.enter_graceful_shutdown()
        self._draining.stop()
        self.models.stop()
        await asyncio.gather(self._server.stop(grace), self.http.stop(grace))
        for looking in self._looking:
            looking.cancel()
        await self._replays.close()
        await self.models.close()
        self._stop_metrics()


def server_tls(settings: Settings) -> ServerTls | None:
    """What the listeners have of TLS; None: they speak in the clear."""
    if not settings.tls_certificate:
        return None
    return ServerTls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _provider(settings: Settings) -> IdentityProvider | None:
    if not settings.jwt_keys:
        return None
    expected = Expected(
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_algorithms,
        settings.jwt_leeway,
        settings.jwt_tenant_claim,
        settings.jwt_scope_claim,
    )
    return IdentityProvider(settings.jwt_keys, expected)


def _authenticator(settings: Settings) -> Authenticator:
    try:
        return Authenticator(settings.tokens, provider=_provider(settings))
    except (OSError, ValueError) as error:
        raise TokensUnreadable(f"UNCLIP_TOKENS: {error}") from None


def _server_options(settings: Settings) -> tuple[tuple[str, int], ...]:
    keepalive = int(1000 * settings.keepalive_seconds)
    return (
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", 20_000),  # who says nothing so long is left
        ("grpc.keepalive_time_ms", keepalive),
        ("grpc.keepalive_timeout_ms", keepalive // 2),
        ("grpc.http2.ping_timeout_ms", keepalive),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients may ask whether we are there, also while no call is under way.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", int(1000 * settings.max_connection_seconds)),
        ("grpc.max_connection_age_grace_ms", int(1000 * settings.request_timeout)),
    )


async def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM; a second one ends the process at once."""
    gateway = Gateway(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    await gateway.start()
    # What is there now stays. Else the collector waits for a quarter as many new objects as there are, and
    # memory rises by some 20 MiB before requests' cycles go.
    gc.collect()
    gc.freeze()
    logger.info("listening on %s", listening_address(settings.host, gateway.port))
    await stopping.wait()
    for number in SIGNALS:
        loop.remove_signal_handler(number)
    await gateway.stop(settings.stop_grace)


def open_more_files() -> None:
    """As many connections as the system lets this process have, which by default are fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """``python -m gateway.server``; settings come from the environment."""
    try:
        settings = load_settings()
        logs.configure(settings.log_format)
        tracing.export_spans("unclip-gateway")
        open_more_files()
        asyncio.run(serve(settings))
    except UNFIT as error:
        sys.exit(f"gateway: {error}")


if __name__ == "__main__":
    main()
