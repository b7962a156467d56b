"""JSON Web Tokens of an identity provider (OpenID Connect): whom they name, and what they allow.

The provider's public keys come from a file or a URL and are read again now and then. Only asymmetric
signatures count, so a public key is never taken for a secret; a token without a signature counts for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from gateway.callers import SCOPES, Caller, refused
from services.wire.errors import ProviderUnavailable

logger = logging.getLogger(__name__)
MAX_TOKEN = 8192  # characters
MAX_KEYS = 2**20  # bytes of a set of keys
FETCH_SECONDS = 5.0
FILE_SECONDS = 2.0  # between looks at a file
URL_SECONDS = 60.0  # between looks at a URL
HASTE_SECONDS = 5.0  # between looks for a key that a token names and that is not known
NAME = re.compile(r"[\w.@|: -]{1,64}")


class KeysUnreadable(Exception):
    """The provider's keys cannot be had; the message says why."""


@dataclass(frozen=True)
class Expected:
    """What a token has to say. leeway: seconds that clocks may differ. The claims: of tenant and scopes."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway: float
    tenant_claim: str
    scope_claim: str


class IdentityProvider:
    """Tells callers by the tokens that a provider has signed. keys: the file, or the URL, of its JWKS."""

    def __init__(self, keys: str, expected: Expected) -> None:
        self._source = keys
        self._expected = expected
        self._keys: dict[str, jwt.PyJWK] = {}  # none until they could be read once
        self._wanted = asyncio.Event()

    def caller(self, token: str) -> Caller:
        """Whom a token names. Raises Unauthenticated, or ProviderUnavailable while no keys are known."""
        if len(token) > MAX_TOKEN:
            raise refused("malformed")
        if not self._keys:
            self._wanted.set()
            raise ProviderUnavailable("the identity provider's keys are not known yet; try again")
        expected = self._expected
        try:
            return self._named(
                jwt.decode(
                    token,
                    self._key_of(token),
                    algorithms=list(expected.algorithms),
                    issuer=expected.issuer,
                    audience=expected.audience,
                    leeway=expected.leeway,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
            )
        except jwt.ExpiredSignatureError:
            raise refused("expired") from None
        except (jwt.InvalidSignatureError, jwt.InvalidIssuerError, jwt.InvalidAudienceError):
            raise refused("unknown") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise refused("malformed") from None

    def _key_of(self, token: str) -> jwt.PyJWK:
        """The key that a token names; the only one, if it names none."""
        name = jwt.get_unverified_header(token).get("kid", "")
        key = self._keys.get(str(name))
        if key is None and not name and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            self._wanted.set()  # the provider may have new ones
            raise refused("unknown")
        return key

    def _named(self, claims: Mapping[str, Any]) -> Caller:
        name = str(claims["sub"])
        tenant = claims.get(self._expected.tenant_claim)
        if not isinstance(tenant, str) or not tenant:
            raise refused("malformed")  # else all who have none would be one tenant
        given = claims.get(self._expected.scope_claim, "")
        words = given.split() if isinstance(given, str) else [str(word) for word in given]
        allowed = {word.removeprefix("unclip:") for word in words}
        scopes = tuple(scope for scope in SCOPES if scope in allowed)
        return Caller(_tidy(name), _tidy(tenant), scopes)

    def look(self) -> None:
        """Read the keys. Raises KeysUnreadable."""
        try:
            found = jwt.PyJWKSet.from_dict(json.loads(_read(self._source))).keys
        except (OSError, ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
            raise KeysUnreadable(f"{self._source}: {error}") from None
        keys = {key.key_id or "": key for key in found if key.algorithm_name in self._expected.algorithms}
        if not keys:
            raise KeysUnreadable(f"{self._source} has no key for {', '.join(self._expected.algorithms)}")
        if set(keys) != set(self._keys):
            logger.info("%d keys of the identity provider", len(keys))
        self._keys = keys

    async def keep_looking(self) -> None:
        """Look now and then, and soon for a key that is asked for; what cannot be read changes nothing."""
        while True:
            self._wanted.clear()
            try:
                await asyncio.to_thread(self.look)
            except KeysUnreadable as error:
                logger.error("the identity provider's keys cannot be read: %s", error)
            await asyncio.sleep(FILE_SECONDS if _is_file(self._source) else HASTE_SECONDS)
            if not _is_file(self._source):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(URL_SECONDS - HASTE_SECONDS):
                        await self._wanted.wait()


def _is_file(source: str) -> bool:
    return not urlsplit(source).scheme


def _read(source: str) -> bytes:
    if _is_file(source):
        return Path(source).read_bytes()
    with urllib.request.urlopen(source, timeout=FETCH_SECONDS) as answer:
        data: bytes = answer.read(MAX_KEYS + 1)
    if len(data) > MAX_KEYS:
        raise ValueError("it is too large for a set of keys")
    return data


def _tidy(name: str) -> str:
    """A name as logs and metrics may have it; one that is odd is told by its digest."""
    return name if NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]
