"""API tokens: who calls, for which tenant, and what they may do.

A file holds them, each as a salted hash: whoever reads the file cannot call with it. It is read again when it
changes, so a token that is revoked there is refused within a second or two. The secret part of a token has
256 random bits, which no search finds; so one round of SHA-256 is enough.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway import metrics
from gateway.callers import ANYBODY, Caller, Scope, refused
from gateway.failures import Failures
from gateway.identity import IdentityProvider
from gateway.replacing import replacing
from services.wire.errors import Overloaded, Unauthenticated

logger = logging.getLogger(__name__)
PREFIX = "unclip"
LOOK_SECONDS = 1.0
BLIND_SECONDS = 10.0  # in which tokens hold that cannot be read again; then nobody is let in
NAME_PATTERN = r"^[\w.@ -]{1,64}$"


class Token(BaseModel):
    """One token as the file has it. hash: of salt and secret, SHA-256. All but dates and names is hex."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str = Field(pattern=NAME_PATTERN)
    tenant: str = Field(pattern=NAME_PATTERN)
    scopes: tuple[Scope, ...]
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def fits(self, secret: str) -> bool:
        """Whether the secret is its own; it takes as long for any."""
        return hmac.compare_digest(_hashed(self.salt, secret), self.hash)

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= datetime.datetime.now(datetime.UTC)


class TokenList(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tokens: tuple[Token, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> TokenList:
        for values in ([token.id for token in self.tokens], [token.name for token in self.tokens]):
            if len(set(values)) < len(values):
                raise ValueError("two tokens have the same id or name")
        return self


class Authenticator:
    """Tells callers by their tokens. path: of the file, if there is one. provider: whose tokens count too.

    Without either anybody may call.
    """

    def __init__(
        self,
        path: str,
        clock: Callable[[], float] = time.monotonic,
        provider: IdentityProvider | None = None,
    ) -> None:
        """Raises OSError or ValueError for a file that cannot be read."""
        self._path = Path(path) if path else None
        self.provider = provider
        self._failures = Failures(clock)
        self._clock = clock
        self._looked = clock()
        self._blind_since: float | None = None  # when the file first was not as it should be
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}
        if self._path:
            self._stamp = _stamp(self._path)
            self._tokens = {token.id: token for token in read_tokens(self._path)}

    def caller(self, authorization: str, address: str = "") -> Caller:
        """The caller with this ``authorization`` header. address: where the call comes from.

        Raises Unauthenticated; or Overloaded, which is cheaper for all, if that happens to one address again
        and again. A good token is let in from anywhere.
        """
        try:
            return self._caller(authorization)
        except Unauthenticated:
            if (seconds := self._failures.note(address)) > 0:
                metrics.authentication_failures.labels("limited").inc()
                raise Overloaded("too many calls that were not let in", seconds, "gateway") from None
            raise

    def _caller(self, authorization: str) -> Caller:
        if self._path is None and self.provider is None:
            return ANYBODY
        if not authorization:
            raise refused("none")
        kind, _, given = authorization.partition(" ")
        given = given.strip()
        if kind.lower() == "bearer" and self.provider and not given.startswith(f"{PREFIX}_"):
            return self.provider.caller(given)
        if self._path is None:
            raise refused("malformed")
        self._look(self._path)
        parts = given.split("_", 2)
        if kind.lower() != "bearer" or len(parts) != 3 or parts[0] != PREFIX:
            raise refused("malformed")
        token = self._tokens.get(parts[1])
        if token is None or not token.fits(parts[2]):
            raise refused("unknown")
        if token.expired:
            raise refused("expired")
        return Caller(token.name, token.tenant, token.scopes)

    def _look(self, path: Path) -> None:
        """Read the file again if it has changed. One that cannot be read holds for a while, then nobody's."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            stamp = _stamp(path)
            if stamp != self._stamp:
                self._tokens = {token.id: token for token in read_tokens(path)}
                self._stamp = stamp
                logger.info("%d tokens read", len(self._tokens))
            self._blind_since = None
        except (OSError, ValueError) as error:
            logger.error("the tokens cannot be read: %s", error)
            self._stamp = None
            self._blind_since = now if self._blind_since is None else self._blind_since
            if now - self._blind_since > BLIND_SECONDS:
                self._tokens = {}


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file does. (Kubernetes replaces a secret's files.)"""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _hashed(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Raises OSError, or ValueError that says what is wrong."""
    try:
        return TokenList.model_validate_json(path.read_bytes()).tokens
    except ValidationError as error:
        raise ValueError(f"{path} holds no tokens: {error}") from None


@contextlib.contextmanager
def changing(path: Path) -> Iterator[list[Token]]:
    """The tokens of a file, none if it is not there, to be changed; then they replace it, at once.

    Nobody else changes it meanwhile. Its owner and mode stay; a new one is its owner's alone. Raises OSError,
    and ValueError for a file that holds no tokens.
    """
    path = path.resolve()
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tokens = list(read_tokens(path)) if path.exists() else []
        yield tokens
        write_tokens(path, tokens)


def write_tokens(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file at once; a new one is for its owner alone. Raises OSError."""
    text = json.dumps(TokenList(tokens=tuple(tokens)).model_dump(mode="json"), indent=2) + "\n"
    with replacing(path, 0o600) as file:
        file.write(text.encode())


def new_token(
    name: str, tenant: str, scopes: Sequence[Scope], expires: datetime.datetime | None
) -> tuple[Token, str]:
    """A token as the file has it, and as its caller has it. Raises ValueError for an odd name or tenant."""
    secret = secrets.token_urlsafe(32)
    salt = secrets.token_hex(16)
    token = Token(
        id=secrets.token_hex(8),
        name=name,
        tenant=tenant,
        scopes=tuple(scopes),
        salt=salt,
        hash=_hashed(salt, secret),
        created=datetime.datetime.now(datetime.UTC),
        expires=expires,
    )
    return token, f"{PREFIX}_{token.id}_{secret}"
