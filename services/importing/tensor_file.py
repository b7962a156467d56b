"""A safetensors file, written tensor by tensor: the library's own writer holds all of them in memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
ALIGNMENT = 8


def write_tensors(path: Path, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Write the tensors in this type, and forget each: those of a mapped file are in memory one by one."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in state.items():
        end = offset + tensor.numel() * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in list(state):
            file.write(state.pop(name).to(dtype).contiguous().flatten().view(torch.uint8).numpy().data)
