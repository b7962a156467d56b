"""Network calls on a GPU, whose kernels are launched together: one by one that takes longer than they do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Network = Callable[..., Tensor]
MOST = 32  # graphs that are kept: each holds its inputs and its output; what lies between they share
WARM_UPS = 2  # calls before one is recorded, in which kernels are chosen and memory is taken


class Graphs:
    """CUDA graphs of a stage's network calls, one for each network and shapes of what it is given.

    A call is recorded the second time that it is made, which takes as long as some calls. On a CPU networks
    are just called. It is for one thread.
    """

    def __init__(self, device: torch.device) -> None:
        self._recording = device.type == "cuda"
        self._seen: set[Hashable] = set()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        if self._recording:
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def call(self, network: Network, *given: Tensor | None) -> Tensor:
        """The network's output. given: tensors on the device, from which alone the output follows."""
        if not self._recording:
            return network(*given)
        key = (network, *(None if part is None else (part.shape, part.dtype) for part in given))
        if key not in self._seen:
            self._seen.add(key)
            return network(*given)
        if key not in self._recorded:
            self._record(key, network, given)
        self._recorded.move_to_end(key)
        return self._recorded[key].replay(given)

    def _record(self, key: Hashable, network: Network, given: Sequence[Tensor | None]) -> None:
        while len(self._recorded) >= MOST:
            self._recorded.popitem(last=False)
        try:
            self._recorded[key] = _Recorded(network, given, self._pool, self._stream)
        except BaseException:
            # What a recording leaves when it fails may spoil those that share its memory.
            self._recorded.clear()
            self._pool = torch.cuda.graph_pool_handle()
            raise


class _Recorded:
    """One call's graph, with the memory of its inputs and of its output."""

    def __init__(self, network: Network, given: Sequence[Tensor | None], pool: Any, stream: Any) -> None:
        self._inputs = [None if part is None else part.clone() for part in given]
        self._graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                network(*self._inputs)
        here.wait_stream(stream)
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._output = network(*self._inputs)

    def replay(self, given: Sequence[Tensor | None]) -> Tensor:
        """The output for other inputs of the same shapes: a copy, which later calls leave alone."""
        for own, part in zip(self._inputs, given, strict=True):
            if own is not None and part is not None:
                own.copy_(part)
        self._graph.replay()
        return self._output.clone()
