"""Sampling the prior: rows of image embeddings, many requests in one network call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device, load_network, read_tensors
from services.diffusion.calls import Calls
from services.diffusion.graphs import Graphs
from services.diffusion.guidance import guided
from services.diffusion.lanes import Lanes
from services.diffusion.noise import generator_for
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.row import Row
from services.diffusion.samplers import make_sampler, with_x0
from services.diffusion.schedule import spaced_timesteps
from services.engine import Segment, segments
from services.prior.network import Prior, PriorConfig, TextMemory

PART = "prior"


@dataclass(frozen=True)
class Text:
    """A text as the networks take it: embedding (D,), states (L, D), mask (L,)."""

    embedding: Tensor
    states: Tensor
    mask: Tensor


@dataclass(frozen=True)
class PriorConditioning:
    """The text asked for, (D,), and what the network has read: it, and what guidance is measured against."""

    embedding: Tensor
    text: TextMemory
    unconditional: TextMemory


PriorRow = Row[PriorConditioning]


class PriorSampler:
    """The prior's network and how rows advance through it."""

    def __init__(self, bundle: Bundle, *, call_sizes: Sequence[int] = (), lanes: Lanes | None = None) -> None:
        self.config = bundle.config(PART, PriorConfig)
        self.device = best_device()
        weights = bundle.weights(PART)
        self._network = load_network(lambda: Prior(self.config), weights, self.device)
        # In float32, whatever the network's type is.
        self._mean, self._std = (t.float().to(self.device) for t in read_tensors(weights, "mean", "std"))
        self._schedule = self.config.diffusion.make_schedule()
        self._calls = Calls(call_sizes, lanes)
        self._graphs = Graphs(self.device)

    def plan(self, steps: int, guidance: float) -> list[Segment]:
        """What a row with so many steps needs of the network."""
        sampling = self.config.diffusion.sampling
        scale = self._guidance(guidance)
        return segments(PART, [sampling.evaluations_at(t, scale) for t in self._timesteps(steps)])

    @torch.inference_mode()
    def project(self, text: Text, unconditional: Text) -> PriorConditioning:
        """The conditioning of a request, read once for all rows and steps."""
        dtype = next(self._network.parameters()).dtype
        both = (text, unconditional)
        memory = self._network.read(
            torch.stack([t.embedding for t in both]).to(dtype),
            torch.stack([t.states for t in both]).to(dtype),
            torch.stack([t.mask for t in both]),
        )
        memories = (
            TextMemory(memory.keys[:, i], memory.values[:, i], memory.visible[i]) for i in range(len(both))
        )
        return PriorConditioning(text.embedding, *memories)

    def start(
        self, conditioning: PriorConditioning, *, seed: int, candidate: int, steps: int, guidance: float
    ) -> PriorRow:
        """A row for one candidate; its noise is its own, whatever else runs."""
        generator = generator_for(seed, "prior", candidate)
        x = torch.randn(self.config.embedding_dim, generator=generator).to(self.device)
        timesteps = self._timesteps(steps)
        sampler = make_sampler(
            self.config.diffusion.sampling.sampler, self._schedule, x, timesteps, generator
        )
        row: PriorRow = Row("prior", conditioning, self._guidance(guidance), len(timesteps))
        row.start(with_x0(sampler, self.config.diffusion.bounded))
        return row

    def _timesteps(self, steps: int) -> list[int]:
        """Of a prior that takes none, the one step that turns its prediction into the sample."""
        return spaced_timesteps(self._schedule, steps if self.config.timed else 1)

    def _guidance(self, asked: float) -> float:
        return asked if self.config.timed else 1.0

    @torch.inference_mode()
    def advance(self, rows: Sequence[PriorRow]) -> None:
        """Take one denoising step with all rows."""
        outputs = guided(
            lambda which, conditional: self._calls.outputs(
                lambda some, given: self._evaluate([rows[i] for i in some], given), which, conditional
            ),
            [self.config.diffusion.sampling.guidance_at(row.evaluation.t, row.guidance) for row in rows],
            self.config.embedding_dim,
        )
        for row, output in zip(rows, outputs, strict=True):
            x = row.evaluation.x
            t = row.evaluation.t
            row.advance(Prediction(to_x0(output, x, self._schedule.at(t), self.config.diffusion.prediction)))

    def _evaluate(self, rows: Sequence[PriorRow], conditional: Sequence[bool]) -> Tensor:
        memories = [
            r.conditioning.text if c else r.conditioning.unconditional
            for r, c in zip(rows, conditional, strict=True)
        ]
        pending = [row.evaluation for row in rows]
        dtype = next(self._network.parameters()).dtype
        output = self._graphs.call(
            self._predict,
            torch.stack([p.x for p in pending]).to(dtype),
            torch.tensor([p.t for p in pending], device=self.device),
            torch.stack([m.keys for m in memories], dim=1),
            torch.stack([m.values for m in memories], dim=1),
            torch.stack([m.visible for m in memories]),
        )
        return output.float()

    def _predict(self, x: Tensor, timesteps: Tensor, *memory: Tensor) -> Tensor:
        return self._network.predict(x, timesteps, TextMemory(*memory))

    def best(self, rows: Sequence[PriorRow]) -> tuple[Tensor, float]:
        """The embedding (D,) with the highest cosine to its text, and that cosine (paper, section 2.2)."""
        embeddings = [row.result * self._std + self._mean for row in rows if row.result is not None]
        texts = [row.conditioning.embedding for row in rows]
        cosines = [
            float(torch.cosine_similarity(e, t.float(), dim=0))
            for e, t in zip(embeddings, texts, strict=True)
        ]
        best = max(range(len(rows)), key=cosines.__getitem__)
        return embeddings[best], cosines[best]
