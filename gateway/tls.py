"""TLS of the gateway's listeners: PEM files, read again when they change, without dropping a call.

Connections that are there keep what they were made with. Files that do not fit together, as while they are
being replaced, change nothing: the last ones that did are used.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

logger = logging.getLogger(__name__)
LOOK_SECONDS = 2.0


class TlsUnreadable(Exception):
    """The files of TLS cannot be used; the message says why."""


@dataclass(frozen=True)
class Pems:
    """What the files hold. client_ca: who signs callers' certificates; empty: callers need none."""

    certificate: bytes
    key: bytes
    client_ca: bytes


class ServerTls:
    """The certificate of the listeners, and what callers' certificates are checked against."""

    def __init__(self, certificate: str, key: str, client_ca: str = "") -> None:
        """client_ca: a file too; empty: callers need no certificate. Raises TlsUnreadable."""
        self._certificate = Path(certificate)
        self._key = Path(key)
        self._client_ca = Path(client_ca) if client_ca else None
        self._pems, self._context = self._read()
        # What sockets are made with; each handshake then goes on with the context of that moment.
        self.context = self._new_context()
        self.context.sni_callback = self._on_hello
        if self._client_ca is not None:
            # A session that is resumed is not checked against the CA of now. TLS 1.3 resumes by tickets only.
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
            self.context.num_tickets = 0

    def server_credentials(self) -> grpc.ServerCredentials:
        """For gRPC, which asks for the certificate of the moment at each handshake."""
        told = self._pems

        def changed() -> Any:
            nonlocal told
            if told == self._pems:
                return None
            told = self._pems
            return _configuration(told)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(told), changed, require_client_authentication=self._client_ca is not None
        )

    def look(self) -> None:
        """Take over the files if they have changed and fit together."""
        try:
            pems, context = self._read()
        except TlsUnreadable as error:
            logger.error("%s; the certificate from before stays", error)
            return
        if pems != self._pems:
            self._pems = pems
            self._context = context
            logger.info("a new certificate is used")

    async def keep_looking(self) -> None:
        """Look now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def _read(self) -> tuple[Pems, ssl.SSLContext]:
        """The files' bytes, and a context of just these."""
        try:
            before = self._bytes()
            context = self._new_context()
            if before != self._bytes():
                raise TlsUnreadable("the files of TLS changed while they were read")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise TlsUnreadable(f"the files of TLS cannot be used: {error}") from None
        return before, context

    def _bytes(self) -> Pems:
        ca = self._client_ca.read_bytes() if self._client_ca else b""
        return Pems(self._certificate.read_bytes(), self._key.read_bytes(), ca)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, password=_no_password)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _on_hello(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not, in a file that only the gateway reads")


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    pair = [(pems.key, pems.certificate)]
    return grpc.ssl_server_certificate_configuration(pair, root_certificates=pems.client_ca or None)


def channel_credentials(ca: str, certificate: str, key: str) -> grpc.ChannelCredentials:
    """Those of a connection to a server whose certificate this CA has signed; ca: empty: the system's.

    Raises TlsUnreadable.
    """
    try:
        roots, chain, secret = (Path(name).read_bytes() if name else None for name in (ca, certificate, key))
    except OSError as error:
        raise TlsUnreadable(f"the files of TLS cannot be used: {error}") from None
    return grpc.ssl_channel_credentials(roots, secret, chain)
