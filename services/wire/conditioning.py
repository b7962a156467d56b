"""Text conditioning and seeds from the wire, checked."""

from __future__ import annotations

from services.wire.errors import InvalidInput
from services.wire.tensors import Array, from_message
from unclip.internal.v1 import sampling_pb2, text_encoder_service_pb2

MAX_STEPS = 1000
TextArrays = tuple[Array, Array, Array]


def text_arrays(
    message: text_encoder_service_pb2.TextConditioning,
    field: str,
    dim: int,
    width: int,
    length: int | None = None,
) -> TextArrays:
    """(embedding (D,), states (L, W), mask (L,)) of a text; any L unless ``length`` is given.

    Raises InvalidInput naming the part that does not fit.
    """
    states = from_message(message.states, f"{field}.states", (length, width))
    return (
        from_message(message.embedding, f"{field}.embedding", (dim,)),
        states,
        from_message(message.mask, f"{field}.mask", (len(states),)),
    )


def check_task(task: sampling_pb2.SamplingTask) -> None:
    """Raises InvalidInput if steps or guidance cannot be worked with."""
    if not 1 <= task.steps <= MAX_STEPS:
        raise InvalidInput(("task.steps", f"must be from 1 to {MAX_STEPS}"))
    if not 0 <= task.guidance <= 100:
        raise InvalidInput(("task.guidance", "must be from 0 to 100"))
