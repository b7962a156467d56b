"""Tokens of an identity provider: good ones are let in as whom they name, all others are refused alike."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from gateway import identity
from gateway.callers import Caller
from gateway.identity import Expected, IdentityProvider, KeysUnreadable
from gateway.settings import Settings
from services.wire.errors import ProviderUnavailable, Unauthenticated
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, fronting, refusal, until
from unclip.v1 import image_service_pb2 as pb

ISSUER = "https://login.example.com"
AUDIENCE = "unclip"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EXPECTED = Expected(ISSUER, AUDIENCE, ("RS256", "ES256"), 5.0, "tenant", "scope")


def jwks(**keys: Any) -> str:
    """A set of public keys by their names."""
    found = []
    for name, key in keys.items():
        algorithm: Any = (
            jwt.algorithms.RSAAlgorithm if hasattr(key, "decrypt") else jwt.algorithms.ECAlgorithm
        )
        kind = "RS256" if algorithm is jwt.algorithms.RSAAlgorithm else "ES256"
        found.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "alg": kind})
    return json.dumps({"keys": found})


def token(key: Any = KEY, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    """A good token, but for what is given."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "scope": "unclip:generate embed"}
    payload = {
        name: value for name, value in {**good, "exp": now + 60, **claims}.items() if value is not None
    }
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(jwks(one=KEY, two=CURVE))
    return path


@pytest.fixture
def provider(file: Path) -> IdentityProvider:
    found = IdentityProvider(str(file), EXPECTED)
    found.look()
    return found


def test_a_good_token_names_its_caller(provider: IdentityProvider) -> None:
    assert provider.caller(token()) == Caller("ann", "acme", ("generate", "embed"))
    assert provider.caller(token(CURVE, "ES256", "two")).name == "ann"
    assert provider.caller(token(aud=["other", AUDIENCE], scope=["edit"])).scopes == ("edit",)
    assert provider.caller(token(exp=int(time.time()) - 3)).name == "ann"  # within the leeway
    odd = provider.caller(token(sub="a\nforged line" * 20))
    assert len(odd.name) == 16


def test_while_no_keys_are_known_a_good_token_may_come_again(file: Path) -> None:
    with pytest.raises(ProviderUnavailable):
        IdentityProvider(str(file), EXPECTED).caller(token())


def plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def coded(header: dict[str, str]) -> str:
    return plain(json.dumps(header).encode())


def forged() -> dict[str, str]:
    """Every way that a token can be wrong."""
    now = int(time.time())
    header, payload, _ = token().split(".")
    nothing = coded({"alg": "none", "kid": "one"})
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    confused = f"{coded({'alg': 'HS256', 'kid': 'one'})}.{payload}"  # PyJWT itself would not make it
    signature = hmac.digest(public, confused.encode(), "sha256")
    return {
        "no signature": f"{nothing}.{payload}.",
        "the public key as a secret": f"{confused}.{plain(signature)}",
        "another key": token(OTHER),
        "another key's name": token(kid="two"),
        "an unknown key": token(kid="three"),
        "no key's name": token(kid=None),
        "no tenant": token(tenant=None),
        "a tenant that is no name": token(tenant=["acme"]),
        "an algorithm that is not allowed": token(algorithm="RS512"),
        "expired": token(exp=now - 60),
        "not yet valid": token(nbf=now + 600),
        "another issuer": token(iss="https://evil.example.com"),
        "another audience": token(aud="others"),
        "no end": token(exp=None),
        "no subject": token(sub=None),
        "no audience": token(aud=None),
        "a changed payload": f"{header}.{payload[:-4]}AAAA.{token().split('.')[2]}",
        "two parts": f"{header}.{payload}",
        "too long": token(filler="x" * 9000),
        "nothing": "",
        "noise": "ab.cd.ef",
        "a claim of another kind": token(scope=7),
    }


@pytest.mark.parametrize("kind", list(forged()))
def test_what_is_wrong_is_refused_alike(provider: IdentityProvider, kind: str) -> None:
    with pytest.raises(Unauthenticated, match="missing, wrong, expired or revoked"):
        provider.caller(forged()[kind])


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"keys": []}', '{"keys": [7]}'])
def test_keys_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(KeysUnreadable):
        IdentityProvider(str(path), EXPECTED).look()


async def test_both_kinds_of_tokens_and_scopes_count_at_the_door(file: Path) -> None:
    settings = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": str(file)}
    async with fronting(FakeStages(), **settings) as front:
        provider = front.gateway._authenticator.provider
        assert provider is not None
        await until(lambda: bool(provider._keys))
        bearer = (("authorization", f"Bearer {token()}"),)
        assert (await front.images.Generate(FOX, metadata=bearer)).pictures
        refused = await refusal(front.images.Generate(FOX))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        edit = front.images.Outpaint(pb.OutpaintRequest(), metadata=bearer)
        assert (await refusal(edit)).code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, str]]]:
    """A URL, and what it answers."""
    served = {"text": jwks(one=KEY)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(served["text"].encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/jwks", served
    server.shutdown()
    server.server_close()


async def test_keys_that_are_replaced_come_into_use_and_the_old_go(
    site: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "HASTE_SECONDS", 0.05)
    url, served = site
    provider = IdentityProvider(url, EXPECTED)
    looking = asyncio.create_task(provider.keep_looking())
    await until(lambda: bool(provider._keys))
    assert provider.caller(token()).name == "ann"
    served["text"] = jwks(next=OTHER)
    fresh = token(OTHER, kid="next")
    with pytest.raises(Unauthenticated):
        provider.caller(fresh)  # which makes it look
    await until(lambda: "next" in provider._keys)
    assert provider.caller(fresh).name == "ann"
    with pytest.raises(Unauthenticated):
        provider.caller(token())
    served["text"] = "gone"
    with pytest.raises(Unauthenticated):
        provider.caller(token(kid="more"))
    await asyncio.sleep(0.3)
    assert provider.caller(fresh).name == "ann"  # what cannot be read changes nothing
    looking.cancel()


@pytest.mark.parametrize(
    "settings",
    [
        {"jwt_issuer": ISSUER},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": "http://login.example.com/jwks"},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": "file:///etc/passwd"},
        {"jwt_algorithms": "HS256"},
        {"jwt_algorithms": "none"},
    ],
)
def test_settings_that_would_let_others_in_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)
