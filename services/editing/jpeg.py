"""JPEG files, segment by segment."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from services.editing.errors import PictureError

START = b"\xff\xd8"
START_OF_SCAN = 0xDA
ADOBE = 0xEE  # the application segment that tells the colour model
# Markers, and stray bytes between segments, before the first scan. Camera files have some dozens.
MAX_STEPS = 4096


def check(data: bytes) -> None:
    """Raises PictureError for a file with very many segments, or stray bytes between them.

    Pillow would go through them one by one.
    """
    for steps, _ in enumerate(_segments(data)):
        if steps == MAX_STEPS:
            raise PictureError(f"has more than {MAX_STEPS} segments or stray bytes")


def has_one_scan(data: bytes) -> bool:
    """Whether the first scan holds all colours."""
    frame = next((s for m, s in _segments(data) if 0xC0 <= m <= 0xCF and m not in (0xC4, 0xC8, 0xCC)), b"")
    scan = next((segment for marker, segment in _segments(data) if marker == START_OF_SCAN), b"")
    return len(frame) > 9 and len(scan) > 4 and frame[9] == scan[4]


def without_metadata(data: bytes) -> bytes:
    """Without application segments. JFIF's, Adobe's and colour profiles stay."""
    kept = [START]
    end = len(START)
    for marker, segment in _segments(data):
        if marker == START_OF_SCAN:
            break
        metadata = 0xE1 <= marker <= 0xEF and marker != ADOBE and not segment[4:].startswith(b"ICC_PROFILE")
        if not metadata:
            kept.append(segment)
        end += len(segment)
    return b"".join([*kept, data[end:]])


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, whole segment) up to the first scan, which is the last; a stray byte has the marker 0."""
    place = len(START)
    while place + 4 <= len(data):
        marker = data[place + 1]
        if data[place] != 0xFF or marker in (0x00, 0xFF):
            yield 0, data[place : place + 1]
            place += 1
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, data[place : place + 2 + length]
        if marker == START_OF_SCAN:
            return
        place += 2 + max(length, 2)
