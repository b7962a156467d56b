"""Typed tensor messages to numpy arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from services.wire.errors import InvalidInput
from unclip.internal.v1 import tensor_pb2

Array = npt.NDArray[Any]
_TYPES: dict[int, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.DATA_TYPE_BOOL: np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}


def to_message(array: Array) -> tensor_pb2.Tensor:
    """An array (float32, float16, uint8 or bool) as a message. Raises KeyError for another type."""
    return tensor_pb2.Tensor(
        data_type=tensor_pb2.DataType.ValueType(_CODES[array.dtype]),
        shape=array.shape,
        data=np.ascontiguousarray(array).tobytes(),
    )


def from_message(message: tensor_pb2.Tensor, field: str, shape: tuple[int | None, ...]) -> Array:
    """The array in a message; ``shape`` is what it must be, None standing for any length.

    Raises InvalidInput naming ``field`` if type, shape, size or (for floats) finiteness is wrong.
    """
    dtype = _TYPES.get(message.data_type)
    found = tuple(message.shape)
    if dtype is None:
        raise InvalidInput((field, "has no data type"))
    if len(found) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found, strict=True)
    ):
        wanted = " x ".join("any" if want is None else str(want) for want in shape)
        raise InvalidInput((field, f"has shape {found}; it must be {wanted}"))
    if 0 in found:
        raise InvalidInput((field, "is empty"))
    if len(message.data) != int(np.prod(found, dtype=np.int64)) * dtype.itemsize:
        raise InvalidInput((field, "has more or fewer bytes than its shape says"))
    array = np.frombuffer(message.data, dtype).reshape(found)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput((field, "must be finite"))
    return array
