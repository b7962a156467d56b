"""Weights into networks, strictly: a missing, spare or misshapen tensor is an error that names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from services.bundles.bundle import BundleError
from services.bundles.packing import pack

Network = TypeVar("Network", bound=nn.Module)
PIECE_BYTES = 32 * 2**20


def load_weights(network: Network, source: Path | Mapping[str, Tensor]) -> Network:
    """Fill a network from a safetensors file or a state dict.

    Raises BundleError naming every key that does not fit.
    """
    state = load_file(source) if isinstance(source, Path) else source
    require_fit(network, {key: value.shape for key, value in state.items()})
    network.load_state_dict(dict(state))
    return network


class _Unfilled(TorchFunctionMode):
    """Networks are built without their initial values, which would only be overwritten.

    On the meta device, making normal values brings in torch's compiler and sympy: 4 s of CPU.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def on_no_device(build: Callable[[], Network]) -> Network:
    """A network whose shapes are known and which takes no memory."""
    with torch.device("meta"), _Unfilled():
        return build()


def load_network(
    build: Callable[[], Network],
    source: Path,
    device: torch.device,
    belongs: Callable[[str], bool] = bool,
    dtype: torch.dtype | None = None,
) -> Network:
    """A network on the device, ready for inference: in its best type, channels last, packed, frozen.

    build: makes it. Its weights come from a safetensors file one by one, each at once in its type, so that
    memory holds little more than the network. belongs: which of the file's keys are meant; all, as a rule.
    dtype: its type, if that is not to be the device's best. Raises BundleError naming every key that does
    not fit.
    """
    network = on_no_device(build)
    with safe_open(source, "pt", device="cpu") as file:
        keys = filter(belongs, file.keys())
        require_fit(network, {key: torch.Size(file.get_slice(key).get_shape()) for key in keys})
    state = {key: _placed(source, key, device, dtype) for key in network.state_dict()}
    network.load_state_dict(state, assign=True)
    del state
    network.eval().requires_grad_(False)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pack(network)
    return network


def read_tensors(source: Path, *names: str) -> list[Tensor]:
    """Some tensors of a safetensors file, as they are there.

    They lie in the file, which is mapped, and its pages count as memory until the last of them is gone.
    """
    with safe_open(source, "pt", device="cpu") as file:
        return [file.get_tensor(name) for name in names]


def _placed(source: Path, key: str, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A tensor of the file in its type, on the device. It is a copy: nothing lies in a file that may change.

    Large ones are read in pieces, so that memory does not hold them twice.
    """
    (found,) = read_tensors(source, key)
    kind = (dtype or best_dtype(device)) if found.is_floating_point() else found.dtype
    layout = torch.channels_last if found.dim() == 4 else torch.contiguous_format
    placed = torch.empty(found.shape, dtype=kind, device=device, memory_format=layout)
    rows = max(1, PIECE_BYTES * len(found) // found.nbytes) if found.dim() and found.nbytes else 1
    del found
    for start in range(0, len(placed) if placed.dim() else 1, rows):
        (again,) = read_tensors(source, key)  # mapped anew, so that the pages of the piece before are free
        piece = slice(start, start + rows) if placed.dim() else ...
        placed[piece] = again[piece].to(device)
    return placed


def require_fit(network: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """Raises BundleError naming every key that is missing, spare, or of another shape."""
    own = {key: value.shape for key, value in network.state_dict().items()}
    problems = [f"missing {key}" for key in own.keys() - shapes.keys()]
    problems += [f"spare {key}" for key in shapes.keys() - own.keys()]
    problems += [
        f"{key} is {tuple(shapes[key])}, not {tuple(own[key])}"
        for key in own.keys() & shapes.keys()
        if own[key] != shapes[key]
    ]
    if problems:
        raise BundleError(f"the weights do not fit {type(network).__name__}: {'; '.join(sorted(problems))}")


def best_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
