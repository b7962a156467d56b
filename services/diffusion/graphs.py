"""Network calls on a GPU, whose kernels are launched together: one by one that takes longer than they do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Network = Callable[..., Tensor]
MOST = 64  # graphs that are kept: each holds its inputs and its output; what lies between they share
WARM_UPS = 2  # calls before one is recorded, in which kernels are chosen and memory is taken


class Graphs:
    """CUDA graphs of a stage's network calls, one for each network and shape of what it is given.

    A call whose shapes are new is recorded, which takes as long as a few calls. On a CPU networks are just
    called. It is for one thread, and one call at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._recording = device.type == "cuda"
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle() if self._recording else None

    def call(self, network: Network, *given: Tensor | None) -> Tensor:
        """The network's output. given: tensors on the device, from which alone the output follows."""
        if not self._recording:
            return network(*given)
        key = (network, *(None if part is None else (part.shape, part.dtype) for part in given))
        if key not in self._recorded:
            while len(self._recorded) >= MOST:
                self._recorded.popitem(last=False)
            self._recorded[key] = _Recorded(network, given, self._pool)
        self._recorded.move_to_end(key)
        return self._recorded[key].replay(given)


class _Recorded:
    """One call's graph, with the memory of its inputs and of its output."""

    def __init__(self, network: Network, given: Sequence[Tensor | None], pool: Any) -> None:
        self._inputs = [None if part is None else part.clone() for part in given]
        self._graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                network(*self._inputs)
        here.wait_stream(aside)
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = network(*self._inputs)

    def replay(self, given: Sequence[Tensor | None]) -> Tensor:
        """The output for other inputs of the same shapes: a copy, which later calls leave alone."""
        pairs = [(own, part) for own, part in zip(self._inputs, given, strict=True) if own is not None]
        for own, part in pairs:
            assert part is not None
            own.copy_(part)
        self._graph.replay()
        return self._output.clone()
