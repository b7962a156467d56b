"""Bodies of requests: JSON, or forms with files. They are parsed in threads, and nothing odd costs much."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.http import schema
from gateway.threads import in_thread
from services.wire.errors import MAX_VIOLATIONS, InvalidInput

MAX_ITEMS = 256  # of a JSON document, and of a form
MAX_FIELD_BYTES = 64 * 2**10  # of a form's field that is no file
CHUNK = 64 * 2**10
LISTED = "captions"  # the field of a form that may be there more than once
NESTED = re.compile(r"(outpaint)\[(\w+)\]")
BODIES = ThreadPoolExecutor(2, thread_name_prefix="bodies")
Kind = TypeVar("Kind", bound=schema.Body)
Item = tuple[str, str | bytes]


class Form:
    """A form's files and its other fields."""

    def __init__(self, items: list[Item], *names: str) -> None:
        """names: which fields are files. Raises InvalidInput for what cannot be there so, or twice."""
        self._files: dict[str, bytes] = {}
        self.fields: dict[str, Any] = {}
        for key, value in items:
            self._take(re.sub(r"\[\d*\]$", "", key), value, names)

    def _take(self, key: str, value: str | bytes, names: tuple[str, ...]) -> None:
        if isinstance(value, bytes) != (key in names):
            raise InvalidInput((key, "must be a file" if key in names else "must be no file"))
        if key == LISTED:
            self.fields.setdefault(key, []).append(value)
            return
        if (nested := NESTED.fullmatch(key)) and isinstance(self.fields.get(nested[1], {}), dict):
            self.fields.setdefault(nested[1], {})[nested[2]] = value
            return
        if key in self._files or key in self.fields:
            raise InvalidInput((key, "is there more than once; one is allowed"))
        if isinstance(value, bytes):
            self._files[key] = value
        else:
            self.fields[key] = value

    def file(self, name: str) -> bytes:
        """A file that has to be there."""
        if name not in self._files:
            raise InvalidInput((name, "is missing"))
        return self._files[name]

    def optional(self, name: str) -> bytes:
        """A file, or nothing."""
        return self._files.get(name, b"")

    def body(self, kind: type[Kind]) -> Kind:
        """The other fields, checked."""
        return checked(kind, self.fields)


async def read_form(request: Request, *names: str) -> Form:
    """The request's form. names: which fields are files. Raises InvalidInput."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidInput(("content-type", "must be multipart/form-data"))
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise InvalidInput(("content-type", "must have no charset but utf-8"))
    body = await request.body()
    return Form(await in_thread(_items, options[b"boundary"], body, pool=BODIES), *names)


async def read_json(request: Request, kind: type[Kind]) -> Kind:
    """The request's JSON, checked. Raises InvalidInput."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json":
        raise InvalidInput(("content-type", "must be application/json"))
    return await in_thread(_document, await request.body(), kind, pool=BODIES)


def _document(body: bytes, kind: type[Kind]) -> Kind:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(("body", "is no JSON")) from None
    if not isinstance(found, dict):
        raise InvalidInput(("body", "must be a JSON object"))
    for number, text in enumerate(_texts(found)):
        if number >= MAX_ITEMS:
            raise InvalidInput(("body", f"has too many parts; at most {MAX_ITEMS} are allowed"))
        _require_utf8(text)
    return checked(kind, found)


def _texts(value: object) -> Iterator[str]:
    """The keys and values of a document, as it is walked through; what is no text counts as an empty one."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield from item
            left += item.values()
        elif isinstance(item, list):
            yield ""
            left += item[: MAX_ITEMS + 1]
        else:
            yield item if isinstance(item, str) else ""


def _require_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(("body", "has text that is no UTF-8 (half of a surrogate pair)")) from None


def _items(boundary: bytes, body: bytes) -> list[Item]:
    """The fields and files of a form, in their order."""
    headers = Headers(raw=[(b"content-type", b"multipart/form-data; boundary=" + boundary)])
    return asyncio.run(_read(headers, body))


async def _read(headers: Headers, body: bytes) -> list[Item]:
    parser = MultiPartParser(
        headers, _chunks(body), max_files=8, max_fields=MAX_ITEMS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError, KeyError) as error:
        raise InvalidInput(("body", f"is no valid form: {error}")) from None
    try:
        return [
            (key, await value.read() if isinstance(value, UploadFile) else value)
            for key, value in form.multi_items()
        ]
    finally:
        await form.close()


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def checked(kind: type[Kind], fields: dict[str, Any]) -> Kind:
    """A request from its fields. Raises InvalidInput naming those that are not what is allowed."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        violations = [_violation(found) for found in error.errors(include_url=False)[:MAX_VIOLATIONS]]
        raise InvalidInput(*violations) from None


def _violation(error: Any) -> tuple[str, str]:
    """What pydantic found wrong: the field, and what is wrong with it."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return place.lstrip("."), "is not a parameter of this call"
    return place.lstrip(".") or "body", error["msg"][:1].lower() + error["msg"][1:]
