"""TLS on both doors: with and without callers' certificates, and while certificates are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from pydantic import ValidationError

from deploy.local.ports import free_port
from gateway import tls
from gateway.server import Gateway
from gateway.settings import SHIPPED, Settings
from gateway.tls import ServerTls, TlsUnreadable
from tests.certificates import Authority
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from tests.gateway.conftest import FOX, Front, until
from tests.gateway.test_cli import unclip
from unclip.v1 import image_service_pb2_grpc


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@contextlib.asynccontextmanager
async def secured(stages: FakeStages | None = None, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway with these settings in front of these stages."""
    async with serve_fake_stages(stages or FakeStages()) as address:
        gateway = Gateway(Settings(port=0, http_port=0, **{**addresses_of(address), **settings}))
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.stop(0)


def listener(authority: Authority, **more: Any) -> dict[str, Any]:
    certificate, key = authority.issue("gateway")
    return {"tls_certificate": str(certificate), "tls_key": str(key), **more}


async def drawn(gateway: Gateway, credentials: grpc.ChannelCredentials | None) -> int:
    """How many pictures come over a connection of its own."""
    target = f"127.0.0.1:{gateway.port}"
    channel = (
        grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    )
    async with channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        return len((await stub.Generate(FOX, timeout=5)).pictures)


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    certificate, key = map(str, client or ("", ""))
    return tls.channel_credentials(str(authority.ca), certificate, key)


def context_of(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if client:
        context.load_cert_chain(*client)
    return context


async def status(gateway: Gateway, context: ssl.SSLContext) -> int:
    """What the other door answers over a connection of its own."""
    async with httpx.AsyncClient(verify=context) as http:
        return (await http.get(f"https://127.0.0.1:{gateway.http.port}/livez")).status_code


async def test_both_doors_speak_tls_and_nothing_else(authority: Authority, tmp_path: Path) -> None:
    async with secured(**listener(authority)) as gateway:
        assert await drawn(gateway, trusting(authority)) == 1
        assert await status(gateway, context_of(authority)) == 200
        for wrong in (None, trusting(Authority(tmp_path, "other"))):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await drawn(gateway, wrong)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.HTTPError):
                await http.get(f"http://127.0.0.1:{gateway.http.port}/livez")
        assert gateway._tls is not None
        assert gateway._tls.context.minimum_version is ssl.TLSVersion.TLSv1_2  # as gRPC's own is


async def test_callers_need_a_certificate_of_the_ca_where_one_is_named(
    authority: Authority, tmp_path: Path
) -> None:
    others = Authority(tmp_path, "others")
    async with secured(**listener(authority, tls_client_ca=str(authority.ca))) as gateway:
        ours = authority.issue("caller")
        assert await drawn(gateway, trusting(authority, ours)) == 1
        assert await status(gateway, context_of(authority, ours)) == 200
        expired = authority.issue("late", days=-1)
        for bad in (None, others.issue("stranger"), expired):
            with pytest.raises(grpc.aio.AioRpcError):
                await drawn(gateway, trusting(authority, bad))
            with pytest.raises(httpx.HTTPError):
                await status(gateway, context_of(authority, bad))


async def test_new_certificates_come_into_use_and_no_call_is_lost(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    stages = FakeStages(delay=1.0)
    async with secured(stages, **listener(authority, tls_client_ca=str(authority.ca))) as gateway:
        old = authority.issue("caller")
        held = asyncio.ensure_future(drawn(gateway, trusting(authority, old)))
        await until(lambda: bool(stages.tasks))
        server = gateway._tls
        assert server is not None
        before = server._pems
        new = Authority(tmp_path, "new")
        new.issue("gateway")
        authority.ca.write_bytes(new.ca.read_bytes())  # whom callers' certificates are checked against
        await until(lambda: server._pems.client_ca != before.client_ca and server._pems.key != before.key)
        stages.delay = 0
        assert await held == 1
        caller = new.issue("caller")
        assert await drawn(gateway, trusting(new, caller)) == 1
        assert await status(gateway, context_of(new, caller)) == 200
        with pytest.raises(httpx.HTTPError):
            await status(gateway, context_of(new, Authority(tmp_path, "stranger").issue("stranger")))


def asked(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Any:
    """The session of a connection that was answered, begun with another one's."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if not connection.recv(4096):
            raise ConnectionResetError
        return connection.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_whom_a_new_ca_does_not_know_cannot_go_on_with_a_session_from_before(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: ssl.TLSVersion
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    callers = Authority(tmp_path, "callers")
    async with secured(**listener(authority, tls_client_ca=str(callers.ca))) as gateway:
        server = gateway._tls
        assert server is not None
        context = context_of(authority, callers.issue("caller"))
        context.maximum_version = version
        session = None
        with contextlib.suppress(ssl.SSLError):  # TLS 1.2 is not spoken with certificates
            session = await asyncio.to_thread(asked, gateway.http.port, context)
        before = server._pems
        callers.ca.write_bytes(Authority(tmp_path, "new").ca.read_bytes())
        await until(lambda: server._pems != before)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(asked, gateway.http.port, context, session)


async def test_files_that_do_not_fit_together_change_nothing(authority: Authority) -> None:
    files = listener(authority)
    async with secured(**files) as gateway:
        assert gateway._tls is not None
        other = authority.issue("other")[1].read_bytes()
        Path(files["tls_key"]).write_bytes(other)
        gateway._tls.look()
        assert await drawn(gateway, trusting(authority)) == 1
        Path(files["tls_certificate"]).unlink()
        gateway._tls.look()
        assert await status(gateway, context_of(authority)) == 200


def test_files_that_cannot_be_used_are_told_at_start(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("gateway")
    other = authority.issue("other")[1]
    (tmp_path / "garbage").write_text("no certificate")
    for bad in ((certificate, other), (tmp_path / "garbage", key), (tmp_path / "absent", key)):
        with pytest.raises(TlsUnreadable, match="cannot be used"):
            ServerTls(*map(str, bad))


async def test_stages_behind_a_proxy_with_tls_are_reached(authority: Authority) -> None:
    certificate, key = authority.issue("proxy")
    pair = [(key.read_bytes(), certificate.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, authority.ca.read_bytes(), True)
    client = authority.issue("us")
    own = {"stage_tls_certificate": str(client[0]), "stage_tls_key": str(client[1])}
    async with serve_fake_stages(FakeStages(), credentials) as address:
        for settings, works in (
            ({"stage_tls_ca": str(authority.ca), **own}, True),
            ({"stage_tls_ca": str(authority.ca)}, False),
            ({}, False),
        ):
            gateway = Gateway(Settings(port=0, **{**addresses_of(address), **settings}))
            await gateway.start()
            try:
                if works:
                    assert await drawn(gateway, None) == 1
                else:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await drawn(gateway, None)
            finally:
                await gateway.stop(0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.local"])
def test_a_listener_that_others_reach_in_the_clear_has_to_be_meant(host: str, authority: Authority) -> None:
    with pytest.raises(ValidationError, match="UNCLIP_INSECURE=true"):
        Settings(host=host)
    Settings(host=host, insecure=True)
    Settings(host=host, tokens="tokens.json")
    Settings(host=host, **listener(authority))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    Settings(host=host)


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_certificate": "a.pem"},
        {"tls_key": "a.key"},
        {"tls_client_ca": "ca.pem"},
        {"stage_tls_certificate": "a.pem", "stage_tls_key": "a.key"},
        {"stage_tls_ca": "ca.pem", "stage_tls_key": "a.key"},
    ],
)
def test_halves_of_settings_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)


async def test_probes_are_answered_in_the_clear_beside_the_metrics(authority: Authority) -> None:
    port = free_port()
    async with secured(metrics_port=port, **listener(authority)) as gateway:
        await until(lambda: gateway.models.ready)

        def asked(path: str) -> int:
            return int(urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).status)

        for path in ("livez", "readyz", "metrics"):
            assert await asyncio.to_thread(asked, path) == 200


async def test_the_command_line_speaks_tls(authority: Authority, tmp_path: Path) -> None:
    async with secured(**listener(authority, tls_client_ca=str(authority.ca))) as gateway:
        front = Front(None, grpc.aio.insecure_channel("127.0.0.1:1"), gateway, FakeStages())
        certificate, key = map(str, authority.issue("caller"))
        trust = ["--ca", str(authority.ca)]
        own = [*trust, "--certificate", certificate, "--key", key]
        assert await unclip(front, tmp_path, *own, "model", "list") == (0, f"{SHIPPED} 0\n")
        code, _ = await unclip(front, tmp_path, "--no-wait", *trust, "model", "list")
        assert code == 3
