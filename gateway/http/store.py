"""Pictures that an answer names by URL: kept for an hour, in memory, a folder or an object store.

The memory is bounded: the oldest pictures make room. Folders and object stores are bounded by their owner,
and shared by all gateways that name them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from services.wire.errors import StageUnavailable

logger = logging.getLogger(__name__)
KEEP_SECONDS = 3600.0
SECONDS = 15.0  # that a store may take
NAME = re.compile(r"[0-9]{10,12}-[A-Za-z0-9_-]{32,64}\.(png|jpeg|webp)", re.ASCII)


class Store(Protocol):
    """Keeps files by name."""

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file."""

    async def get(self, name: str) -> bytes | None:
        """The file, if it is there."""


class Memory:
    """Keeps files in this process, ``most`` bytes of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._files: OrderedDict[str, bytes] = OrderedDict()

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file. Those that have expired go, and then the oldest."""
        if len(data) > self._most:
            return
        self._files[name] = data
        self._held += len(data)
        while self._files and (self._held > self._most or expired(next(iter(self._files)))):
            _, old = self._files.popitem(last=False)
            self._held -= len(old)

    async def get(self, name: str) -> bytes | None:
        """The file, if it is there."""
        return self._files.get(name)


class Objects:
    """Keeps files at a URL: file:///folder, s3://bucket/prefix, gs://..., az://...."""

    def __init__(self, url: str) -> None:
        self._store = from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file."""
        with _answering():
            async with asyncio.timeout(SECONDS):
                await obstore.put_async(self._store, name, data)

    async def get(self, name: str) -> bytes | None:
        """The file, if it is there."""
        with _answering():
            try:
                async with asyncio.timeout(SECONDS):
                    found = await obstore.get_async(self._store, name)
                    return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Raises StageUnavailable if the store does not do what is asked."""
    try:
        yield
    except (BaseError, TimeoutError):
        logger.warning("the store of pictures fails", exc_info=True)
        raise StageUnavailable(
            "the store of pictures does not answer; try again, or ask for b64_json"
        ) from None


def new_name(form: str) -> str:
    """A name that nobody guesses, which says when it was given. form: png, jpeg or webp."""
    return f"{int(time.time()):010d}-{secrets.token_urlsafe(32)}.{form}"


def expired(name: str) -> bool:
    """Whether the file of this name is older than it may be."""
    return time.time() - int(name.partition("-")[0]) > KEEP_SECONDS
