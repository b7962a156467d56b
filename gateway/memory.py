"""The memory that a request's pictures take, by which requests are let in."""

from __future__ import annotations

# What a pixel takes while a request is worked on, measured at the peak: of a picture and of a mask that are
# decoded; of a canvas and its plan of frames; of a result, its canvas, its file and the message with that.
BYTES_PER_INPUT_PIXEL = 12
BYTES_PER_CANVAS_PIXEL = 16
BYTES_PER_RESULT_PIXEL = 16


def held_bytes(inputs: int, canvas: int, results: int) -> int:
    """The memory that a request with so many pixels takes."""
    return inputs * BYTES_PER_INPUT_PIXEL + canvas * BYTES_PER_CANVAS_PIXEL + results * BYTES_PER_RESULT_PIXEL
