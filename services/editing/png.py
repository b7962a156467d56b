"""PNG files, chunk by chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from services.editing.errors import PictureError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = (b"tEXt", b"zTXt", b"iTXt")
MAX_CHUNKS = 16_384  # a picture of 64 MiB in chunks of 4 KiB
MAX_PROFILE_BYTES = 2**20


def without_text(data: bytes) -> bytes:
    """The file without text, and without a colour profile that unpacks to too much.

    Pillow would refuse the picture for it. Raises PictureError for a file of very many chunks.
    """
    kept = [SIGNATURE]
    for number, (kind, chunk) in enumerate(_chunks(data)):
        if number == MAX_CHUNKS:
            raise PictureError(f"has more than {MAX_CHUNKS} chunks")
        if kind not in TEXT and not (kind == b"iCCP" and _is_large_profile(chunk)):
            kept.append(chunk)
    return b"".join(kept)


def _is_large_profile(chunk: bytes) -> bool:
    """Whether a compressed colour profile is too large, or cannot be unpacked."""
    start = chunk.find(b"\0", 8) + 2  # after its name and the compression method
    try:
        return len(zlib.decompressobj().decompress(chunk[start:-4], MAX_PROFILE_BYTES)) >= MAX_PROFILE_BYTES
    except zlib.error:
        return True


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, whole chunk) of a PNG; what is no chunk at the end comes as it is."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        yield data[place + 4 : place + 8], data[place:end]
        place = end
    if place < len(data):
        yield b"", data[place:]
