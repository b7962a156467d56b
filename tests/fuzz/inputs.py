"""Inputs of every kind, from a seed: messages by their descriptors, broken pictures, odd bodies."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from PIL import Image

from unclip.v1 import image_service_pb2 as pb

REQUESTS: dict[str, type[Message]] = {
    method.name: getattr(pb, method.input_type.name)
    for method in pb.DESCRIPTOR.services_by_name["ImageService"].methods
}
JSON_PATHS = {
    "/v1/images/generations": ("prompt", "n", "size", "seed", "steps", "guidance", "model", "user", "stream"),
    "/v1/images/mix": ("sources", "weights", "n", "size", "output_format"),
    "/v1/images/interpolations": ("start", "end", "frames", "size", "seed"),
    "/v1/embeddings": ("input", "model", "encoding_format"),
}
FORM_PATHS = {
    "/v1/images/edits": ("prompt", "n", "size", "outpaint[left]", "outpaint[top]", "stream", "mask_kind"),
    "/v1/images/variations": ("n", "size", "similarity", "from_text", "to_text", "response_format"),
    "/v1/images/rank": ("captions", "captions[]", "model"),
}
WORDS = (
    "",
    "a fox",
    "\x00",
    "\ud7ff\u200f\u202e",
    "a" * 1001,
    "../../etc/passwd",
    "{}",
    "NaN",
    "\U0001f98a" * 9,
)
NUMBERS = (0, 1, 2, 10, 11, 63, 64, 255, 256, 1024, 1025, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 20.5, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))


def _file(kind: str, mode: str, side: int, **options: Any) -> bytes:
    shape = (side, side) if mode == "L" else (side, side, len(mode))
    pixels = np.random.default_rng(side).integers(0, 255, shape, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


PICTURES = (
    _file("PNG", "RGB", 16),
    _file("PNG", "RGBA", 64),
    _file("PNG", "L", 9),
    _file("JPEG", "RGB", 32),
    _file("JPEG", "L", 32, progressive=True),
    _file("WEBP", "RGB", 24),
    _file("WEBP", "RGBA", 24, lossless=True),
    _file("GIF", "L", 8),
    _file("TIFF", "RGB", 8),
    _file("BMP", "RGB", 8),
)


class Inputs:
    """Makes them, one after another; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        """Often a plain one, so that what follows is reached."""
        draw = self.random
        if draw.random() < 0.5:
            return "a fox"
        if draw.random() < 0.7:
            return draw.choice(WORDS)
        return "".join(chr(draw.randrange(1, 0xD7FF)) for _ in range(draw.randrange(40)))

    def picture(self) -> bytes:
        """A picture's file, whole or mutated."""
        data = self.random.choice(PICTURES)
        return data if self.random.random() < 0.4 else self.mutated(data)

    def mutated(self, data: bytes) -> bytes:
        """Bytes that differ here and there: flipped, cut, repeated, put in, or with a length that lies."""
        draw = self.random
        found = bytearray(data)
        for _ in range(draw.randrange(1, 6)):
            if not found:
                return draw.randbytes(draw.randrange(64))
            at = draw.randrange(len(found))
            kind = draw.randrange(6)
            if kind == 0:
                found[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del found[at:]
            elif kind == 2:
                found[at:at] = found[at : at + draw.randrange(200)]
            elif kind == 3:
                found[at:at] = draw.randbytes(draw.randrange(32))
            elif kind == 4:
                found[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            else:
                del found[at : at + draw.randrange(64)]
        return bytes(found)

    def message(self, kind: type[Message], depth: int = 0) -> Message:
        """A message of this type, with some of its fields."""
        made = kind()
        for field in kind.DESCRIPTOR.fields:
            if self.random.random() < (0.65 if depth == 0 else 0.4):
                self._fill(made, field, depth)
        return made

    def _fill(self, made: Message, field: Any, depth: int) -> None:
        values = [self._value(field, depth) for _ in range(self.random.choice((1, 2, 3, 9)))]
        if field.is_repeated:
            getattr(made, field.name).extend(values)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(values[0])
        else:
            setattr(made, field.name, values[0])

    def _value(self, field: Any, depth: int) -> Any:
        if field.message_type is not None:
            kind = getattr(pb, field.message_type.name)
            return self.message(kind, depth + 1) if depth < 4 else kind()
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.text()
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.picture()
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return self.random.choice(FLOATS)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.random.random() < 0.5
        if self.random.random() < 0.6:
            return self.random.randrange(4)
        narrow = field.type in (FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT32)
        return self.random.choice([number for number in NUMBERS if not narrow or number < 2**31])

    def call(self) -> tuple[str, bytes]:
        """A method, and the bytes that it is sent."""
        method = self.random.choice(list(REQUESTS))
        data = self.message(REQUESTS[method]).SerializeToString()
        return method, self.mutated(data) if self.random.random() < 0.2 else data

    def json_body(self) -> tuple[str, bytes]:
        """A path, and the body that it is sent."""
        path = self.random.choice(list(JSON_PATHS))
        fields = JSON_PATHS[path]
        body = {name: self._json_value(2) for name in fields if self.random.random() < 0.4}
        body.setdefault(fields[0], self.text())
        text = json.dumps(body).encode()
        return path, self.mutated(text) if self.random.random() < 0.2 else text

    def _json_value(self, depth: int) -> Any:
        draw = self.random
        plain = [self.text(), draw.choice(NUMBERS), draw.choice(FLOATS), None, True, "256x256", -1, 2**70]
        if depth and draw.random() < 0.3:
            many = [self._json_value(depth - 1) for _ in range(draw.randrange(4))]
            return many if draw.random() < 0.5 else {draw.choice(("image", "prompt", "x")): many}
        return draw.choice(plain)

    def form(self) -> tuple[str, dict[str, Any], dict[str, bytes]]:
        """A path, and the fields and files that it is sent."""
        path = self.random.choice(list(FORM_PATHS))
        given = [name for name in FORM_PATHS[path] if self.random.random() < 0.5]
        fields = {name: self.random.choice((self.text(), str(self.random.choice(NUMBERS)))) for name in given}
        names = [name for name in ("image", "mask", "image[]") if self.random.random() < 0.6]
        return path, fields, {name: self.picture() for name in names}
