"""Forms with files, and what is wrong with requests, by field."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from gateway.http import schema
from services.wire.errors import InvalidInput


class Files:
    """The files and the other fields of a form. Raises InvalidInput for what cannot be there twice."""

    def __init__(self, *names: str) -> None:
        self._files: dict[str, bytes] = {}
        self.fields: dict[str, Any] = {}
        self._names = names

    @classmethod
    async def read(cls, request: Request, *names: str) -> Files:
        """Those of a request. names: which fields are files."""
        found = cls(*names)
        try:
            async with request.form(max_files=8, max_fields=256) as form:
                for key, value in form.multi_items():
                    await found._take(key.removesuffix("[]"), value)
        except HTTPException as error:
            raise InvalidInput(("body", str(error.detail))) from None
        return found

    async def _take(self, key: str, value: UploadFile | str) -> None:
        if isinstance(value, UploadFile) != (key in self._names):
            raise InvalidInput((key, "must be a file" if key in self._names else "must be no file"))
        nested = re.fullmatch(r"(\w+)\[(\w+)\]", key)
        if key in self._files or (key in self.fields and key != "captions"):
            raise InvalidInput((key, "is there more than once; one is allowed"))
        if isinstance(value, UploadFile):
            self._files[key] = await value.read()
        elif nested:
            self.fields.setdefault(nested[1], {})[nested[2]] = value
        elif key == "captions":
            self.fields.setdefault(key, []).append(value)
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

    def body(self, kind: type[schema.Body]) -> Any:
        """The other fields, checked."""
        return checked(kind, self.fields)


def checked(kind: type[schema.Body], fields: dict[str, Any]) -> Any:
    """A request from its fields. Raises InvalidInput naming those that are not what is allowed."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def invalid(errors: Any) -> InvalidInput:
    """What pydantic found wrong, as violations."""
    violations = []
    for error in errors:
        place = [str(part) for part in error["loc"] if part not in ("body", "query")]
        unknown = error["type"] == "extra_forbidden"
        text = "is not a parameter of this call" if unknown else error["msg"][:1].lower() + error["msg"][1:]
        violations.append((".".join(place) or "body", text))
    return InvalidInput(*violations)
