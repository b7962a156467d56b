"""Small things that would become large: pictures, forms and documents, by their names."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b"", rows: int = 0
) -> bytes:
    """A PNG that says this size; its pixels are as many rows of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row = b"\0" * (1 + (width * depth * channels + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = _chunk(b"PLTE", b"\0" * 768) if colour == 3 else b""
    ends = _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + palette + extra + ends


def _compressed_text(size: int) -> bytes:
    return _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size, 9))


def _animated(kind: str, frames: int) -> bytes:
    pictures = [Image.fromarray(np.full((64, 64, 3), i % 256, np.uint8)) for i in range(frames)]
    stream = io.BytesIO()
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def _jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


PICTURES: dict[str, Callable[[], bytes]] = {
    "a PNG that says 60,000 x 60,000": lambda: png(60_000, 60_000),
    "a PNG of 60,000 x 60,000, one bit each": lambda: png(60_000, 60_000, depth=1, colour=0, rows=60_000),
    "a PNG of 30,000 x 30,000 in a palette": lambda: png(30_000, 30_000, depth=1, colour=3, rows=30_000),
    "a PNG of 2^31 - 1 px": lambda: png(2**31 - 1, 1),
    "a PNG with 500 MB of compressed text": lambda: png(16, 16, rows=16, extra=_compressed_text(500_000_000)),
    "a PNG with 2,000 compressed texts": lambda: png(16, 16, rows=16, extra=2000 * _compressed_text(100_000)),
    "a PNG whose pixels go on for ever": lambda: png(16, 16, rows=2_000_000),
    "a JPEG that says 65,535 x 65,535": lambda: _jpeg(65_535, 65_535),
    "a GIF of 300 pictures": lambda: _animated("GIF", 300),
    "a WebP of 300 pictures": lambda: _animated("WEBP", 300),
    "a PNG of 300 pictures": lambda: _animated("PNG", 300),
    "an SVG that names itself": lambda: b'<!DOCTYPE a [<!ENTITY b "&b;&b;">]><svg>&b;</svg>' * 1000,
    "a zip": lambda: b"PK\3\4" + zlib.compress(b"\0" * 10_000_000),
}
DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "JSON that is nested 500,000 times": lambda: b"[" * 500_000,
    "JSON with a number of a million digits": lambda: b'{"prompt": "a", "seed": ' + b"9" * 1_000_000 + b"}",
    "JSON with 200,000 fields": lambda: json.dumps({f"f{i}": i for i in range(200_000)}).encode(),
}
BOUNDARY = "boundary"


def _parts(count: int, body: bytes, name: str = "p{}") -> bytes:
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'
    parts = (head.format(i).encode() + body + b"\r\n" for i in range(count))
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORMS: dict[str, Callable[[], bytes]] = {
    "a form of 100,000 parts": lambda: _parts(100_000, b"x"),
    "a form whose part has a name of a megabyte": lambda: _parts(1, b"x", "n" * 2**20),
    "a form that does not end": lambda: f"--{BOUNDARY}\r\n".encode() * 100_000,
}
