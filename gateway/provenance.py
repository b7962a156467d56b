"""Provenance: a C2PA manifest in every picture's file, which says that a model made it, and of what.

Programs can read it, and laws ask for it (EU AI Act, article 50(2)). Pixels are not touched.
"""

from __future__ import annotations

import datetime
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.rpc import code_pb2

from gateway.settings import Settings
from services.editing.pictures import OutputFormat
from services.wire.errors import ServiceError

logger = logging.getLogger(__name__)
SELF_MADE = "made by this service itself, not verified by anybody"
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MIMES: dict[OutputFormat, str] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
SETTINGS_KEY = "unclip.settings"  # among an action's parameters
YEARS = datetime.timedelta(days=3650)
LOOK_SECONDS = 30.0  # between looks whether the files have changed
UNUSABLE = (OSError, ValueError, c2pa.C2paError)
# No thumbnails: they would be larger than the pictures. What is signed here need not be checked again.
SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": False}}


class ProvenanceError(Exception):
    """The key cannot be used; the message says why."""


@dataclass(frozen=True)
class Made:
    """What is said of a picture. model, version: who made it. given: the files that it was made of.

    edited: it is the given picture, with parts painted; otherwise it is a new one. settings: what makes it
    again from the same request.
    """

    model: str
    version: str
    edited: bool = False
    given: tuple[bytes, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class Unsigned(ServiceError):
    """Pictures cannot be signed; nothing a caller can change."""

    code = code_pb2.FAILED_PRECONDITION


Validity = tuple[datetime.datetime, datetime.datetime]  # from and until when
Pems = tuple[bytes, bytes]  # a chain, which begins with the key's own certificate, and the key


class Signer:
    """Signs files with a key. read: its PEMs, which are read again now and then: certificates are renewed.

    Raises OSError, ValueError or C2paError if they cannot be used.
    """

    def __init__(self, read: Callable[[], Pems]) -> None:
        self._read = read
        self._context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
        self._lock = threading.Lock()
        self._use(read())

    def _use(self, pems: Pems) -> None:
        certificate = x509.load_pem_x509_certificate(pems[0])
        key = serialization.load_pem_private_key(pems[1], None)
        if key.public_key() != certificate.public_key():
            raise ValueError("the certificate is another key's")
        self._validity = _validity(certificate)
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, *pems, None)
        self._signer = c2pa.Signer.from_info(info)
        self._pems = pems
        self._looked = time.monotonic()

    @classmethod
    def of(cls, settings: Settings) -> Signer:
        """With the key of the settings' files, or with a self-made one that is named as such.

        Raises ProvenanceError if the files cannot be used.
        """
        if not settings.provenance_certificate:
            pems = self_made()
            return cls(lambda: pems)
        files = Path(settings.provenance_certificate), Path(settings.provenance_key)
        try:
            signer = cls(lambda: (files[0].read_bytes(), files[1].read_bytes()))
            signer.require_valid()
        except (*UNUSABLE, Unsigned) as error:
            raise ProvenanceError(f"UNCLIP_PROVENANCE_CERTIFICATE, UNCLIP_PROVENANCE_KEY: {error}") from None
        return signer

    def require_valid(self) -> None:
        """Raises Unsigned if the certificate is not valid now, nor is one that took its place."""
        with self._lock:
            if self._is_valid() and time.monotonic() - self._looked < LOOK_SECONDS:
                return
            try:
                pems = self._read()
                later = not _is_now(_validity(x509.load_pem_x509_certificate(pems[0]))) and self._is_valid()
                if pems != self._pems and not later:
                    self._use(pems)
                    logger.info("pictures are signed with a new certificate")
            except UNUSABLE as error:
                logger.error("the files of provenance cannot be used: %s; those from before stay", error)
            self._looked = time.monotonic()
            if not self._is_valid():
                raise Unsigned("pictures cannot be signed: the certificate of this service is not valid now")

    def _is_valid(self) -> bool:
        return _is_now(self._validity)

    def signed(self, data: bytes, form: OutputFormat, made: Made) -> bytes:
        """The file with its manifest. It takes milliseconds: not on the event loop."""
        with self._lock:
            try:
                return self._signed(data, form, made, made.given)
            except c2pa.C2paError as error:
                logger.warning("a given picture cannot be named as an ingredient: %s", error)
                return self._signed(data, form, made, ())

    def _signed(self, data: bytes, form: OutputFormat, made: Made, given: tuple[bytes, ...]) -> bytes:
        names = [f"given-{number + 1}" for number in range(len(given))]
        with c2pa.Builder(json.dumps(_manifest(made, names)), context=self._context) as builder:
            relation = "parentOf" if made.edited else "inputTo"
            for name, file in zip(names, given, strict=True):
                ingredient = {"title": name, "label": name, "relationship": relation}
                builder.add_ingredient(json.dumps(ingredient), mime_of(file), io.BytesIO(file))
            out = io.BytesIO()
            builder.sign(self._signer, MIMES[form], io.BytesIO(data), out)
        return out.getvalue()


def _manifest(made: Made, ingredients: Sequence[str]) -> dict[str, Any]:
    kind = "compositeWithTrainedAlgorithmicMedia" if made.edited else "trainedAlgorithmicMedia"
    opens = made.edited and bool(ingredients)  # a file's first action has to be one of two
    action: dict[str, Any] = {
        "action": "c2pa.edited" if opens else "c2pa.created",
        "digitalSourceType": SOURCES + kind,
        "softwareAgent": {"name": made.model, "version": made.version},
    }
    parameters: dict[str, Any] = {SETTINGS_KEY: dict(made.settings)} if made.settings else {}
    actions = [action]
    if opens:
        actions.insert(0, {"action": "c2pa.opened", "parameters": {"ingredientIds": list(ingredients)}})
    elif ingredients:
        parameters["ingredientIds"] = list(ingredients)
    if parameters:
        action["parameters"] = parameters
    return {
        "claim_generator_info": [{"name": "unclip"}],
        "title": "picture",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
    }


def _validity(certificate: x509.Certificate) -> Validity:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _is_now(validity: Validity) -> bool:
    return validity[0] <= datetime.datetime.now(datetime.UTC) <= validity[1]


def mime_of(file: bytes) -> str:
    """The kind of a picture's file, by how it begins."""
    return next((mime for start, mime in SIGNATURES.items() if file.startswith(start)), "image/png")


def self_made() -> Pems:
    """A certificate chain and its key, as PEM, that nobody vouches for."""
    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"unclip ({SELF_MADE})")
    root = _certificate(issuer, issuer, authority, authority, "authority")
    own = _certificate(_name(f"unclip gateway ({SELF_MADE})"), issuer, key, authority, "signer")
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (own, root))
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return chain, encoded


def _name(common: str) -> x509.Name:
    # Verifiers show the organization.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, common),
            x509.NameAttribute(NameOID.COMMON_NAME, "unclip"),
        ]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signed_by: ec.EllipticCurvePrivateKey,
    role: Literal["authority", "signer"],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    authority = role == "authority"
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - YEARS)  # whatever the clock is set to
        .not_valid_after(now + YEARS)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False
        )
    )
    if not authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    return builder.sign(signed_by, hashes.SHA256())
