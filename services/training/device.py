"""The device that networks are trained on, and how they compute there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from services.bundles.weights import best_device


def on_device(array: npt.NDArray[Any]) -> torch.Tensor:
    """A copy of the array as a tensor on the training device."""
    return torch.tensor(array, device=best_device())


def autocast() -> torch.autocast:
    """bfloat16 autocast on the training device. Weights and optimizer stay in float32."""
    return torch.autocast(best_device().type, dtype=torch.bfloat16)


def fast_attention() -> contextlib.AbstractContextManager[None]:
    """The fastest attention kernel to train with.

    On a CPU that is plain matrix products: the flash kernel's backward pass is slower there.
    """
    if best_device().type == "cuda":
        return contextlib.nullcontext()
    kernel: contextlib.AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return kernel


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients. Its mode is restored afterwards."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(was_training)
