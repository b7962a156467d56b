"""Tensors and errors on the wire."""

from __future__ import annotations

import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2

from services.wire.errors import (
    DeadlineMissed,
    InvalidInput,
    Overloaded,
    StageUnavailable,
    from_status,
    to_status,
)
from services.wire.tensors import from_message, to_message
from unclip.internal.v1 import tensor_pb2


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "bool"])
def test_tensors_come_back_as_they_went(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    back = from_message(to_message(array), "field", (2, None, 4))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (tensor_pb2.Tensor(), "no data type"),
        (tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=[3], data=b"123"), "shape"),
        (tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=[2, 2], data=b"123"), "bytes"),
        (
            tensor_pb2.Tensor(
                data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1, 1], data=np.float32("nan").tobytes()
            ),
            "finite",
        ),
        (tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=[2**31, 2**31], data=b""), "bytes"),
    ],
)
def test_bad_tensors_name_their_field(message: tensor_pb2.Tensor, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"some.field.*{says}"):
        from_message(message, "some.field", (None, None))


def test_invalid_input_carries_every_field() -> None:
    status = to_status(InvalidInput(("a", "is bad"), ("b", "is worse")))
    assert status.code == code_pb2.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a", "is bad"), ("b", "is worse")]


def test_a_full_queue_says_when_to_try_again() -> None:
    status = to_status(Overloaded("the queue is full", 2.2))
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2200
    back = from_status(status)
    assert isinstance(back, Overloaded)
    assert back.retry_after == 2.2
    assert str(back) == status.message


def test_who_refused_is_told() -> None:
    status = to_status(Overloaded("the queue is full", 2.2, "prior"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[1].Unpack(info)
    assert info.metadata["refused_by"] == "prior"
    assert isinstance(from_status(status), Overloaded)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeadlineMissed("late"), code_pb2.DEADLINE_EXCEEDED),
        (StageUnavailable("the prior is not available"), code_pb2.UNAVAILABLE),
        (RuntimeError("secret path /etc/passwd"), code_pb2.INTERNAL),
    ],
)
def test_every_error_has_its_code_and_leaks_nothing(error: Exception, code: int) -> None:
    status = to_status(error)
    assert status.code == code
    assert "secret" not in status.message
