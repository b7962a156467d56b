"""Provenance: a C2PA manifest in every picture's file, which says that a model made it, and of what.

Programs can read it, and laws ask for it (EU AI Act, article 50(2)). Pixels are not touched.
"""

from __future__ import annotations

import datetime
import io
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.settings import Settings
from services.editing.pictures import OutputFormat

logger = logging.getLogger(__name__)
SELF_MADE = "made by this service itself, not verified by anybody"
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MIMES: dict[OutputFormat, str] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
SETTINGS_KEY = "unclip.settings"  # among an action's parameters
YEARS = datetime.timedelta(days=3650)
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


class Signer:
    """Signs files with a key. chain, key: PEM; the chain begins with the key's own certificate."""

    def __init__(self, chain: bytes, key: bytes) -> None:
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None)
        self._signer = c2pa.Signer.from_info(info)
        self._context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Signer:
        """With the key of the settings' files, or with a self-made one that is named as such.

        Raises ProvenanceError if the files cannot be used.
        """
        if not settings.provenance_certificate:
            return cls(*self_made())
        try:
            chain = Path(settings.provenance_certificate).read_bytes()
            return cls(chain, Path(settings.provenance_key).read_bytes())
        except (OSError, c2pa.C2paError) as error:
            raise ProvenanceError(f"UNCLIP_PROVENANCE_CERTIFICATE, UNCLIP_PROVENANCE_KEY: {error}") from None

    def signed(self, data: bytes, form: OutputFormat, made: Made) -> bytes:
        """The file with its manifest. It takes milliseconds: not on the event loop."""
        with self._lock:
            try:
                return self._signed(data, form, made, made.given)
            except c2pa.C2paError:
                logger.warning("a given picture cannot be named as an ingredient", exc_info=True)
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


def mime_of(file: bytes) -> str:
    """The kind of a picture's file, by how it begins."""
    return next((mime for start, mime in SIGNATURES.items() if file.startswith(start)), "image/png")


def self_made() -> tuple[bytes, bytes]:
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
        .not_valid_before(now - datetime.timedelta(hours=1))
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
