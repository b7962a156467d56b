"""Sampling the decoder.

Each row is one picture, first through the base network, then through the upsamplers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device, load_weights, to_device
from services.decoder.known_pixels import KnownPixels
from services.decoder.network import (
    Decoder,
    DecoderConfig,
    Upsampler,
    UpsamplerConfig,
    known_channels,
    raise_to,
)
from services.diffusion.guidance import guided
from services.diffusion.noise import generator_for
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.row import Row
from services.diffusion.samplers import Sampler, make_sampler, with_x0
from services.diffusion.schedule import spaced_timesteps
from services.engine import CallSizes, Segment, segments

# Parts of the bundle; an upsampler's part is named for its side in px.
BASE = "decoder"
UPSAMPLERS = "upsampler-*"
MAX_START_SHARE = 0.96  # of the noise that similarity 0 begins with; see ``_starting_level``


@dataclass(frozen=True)
class Picture:
    """Pixels in [-1, 1], (3, S, S), and where they apply, (1, S, S) in [0, 1].

    S is the size of what is made.
    """

    pixels: Tensor
    keep: Tensor


@dataclass(frozen=True)
class DecoderTask:
    """What one picture is to be: its conditioning, its seed, how it is sampled, and what is already there.

    context, unconditional: projected conditioning, as ``DecoderSampler.project`` makes it; upsampler_steps:
    of each upsampler; size: of the picture in px; known: pixels to keep; start: a picture (3, size, size) to
    stay near to, as much as ``similarity`` in [0, 1] says.
    """

    context: tuple[Tensor, Tensor, Tensor]
    unconditional: tuple[Tensor, Tensor, Tensor]
    seed: int
    steps: int
    guidance: float
    upsampler_steps: int
    size: int
    known: Picture | None = None
    start: Tensor | None = None
    similarity: float = 0.0


class DecoderRow(Row[DecoderTask]):
    """One picture being made.

    ``base_steps`` of its steps are the base network's, the rest the upsamplers'.
    """

    def __init__(self, task: DecoderTask, base_steps: int, upsampler_steps: int) -> None:
        super().__init__(BASE, task, task.guidance, base_steps + upsampler_steps)
        self.base_steps = base_steps
        self.x0: Tensor | None = None  # what the picture looks like so far, known pixels in place
        self.low: Tensor | None = None
        self.known: Tensor | None = None


class DecoderSampler:
    """The base network, the upsamplers that follow it, and how rows advance through them."""

    def __init__(self, bundle: Bundle, *, call_size: int = 0, upsampler_call_size: int = 0) -> None:
        """Load the networks.

        The call sizes are those of ``guided``, for the base network and for the upsamplers.
        """
        self.device = best_device()
        self.config = bundle.config(BASE, DecoderConfig)
        self._base = to_device(load_weights(Decoder(self.config), bundle.weights(BASE)), self.device)
        configs = {part: bundle.config(part, UpsamplerConfig) for part in bundle.parts(UPSAMPLERS)}
        self.upsamplers = dict(sorted(configs.items(), key=lambda item: item[1].side))
        self._upsamplers = {
            part: to_device(load_weights(Upsampler(config), bundle.weights(part)), self.device)
            for part, config in self.upsamplers.items()
        }
        self._diffusions = {
            BASE: self.config.diffusion,
            **{part: config.diffusion for part, config in self.upsamplers.items()},
        }
        self._schedules = {part: diffusion.make_schedule() for part, diffusion in self._diffusions.items()}
        self._call_size = call_size
        self._upsampler_call_size = upsampler_call_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the pictures that can be made, in px, smallest first."""
        return (self.config.side, *(config.side for config in self.upsamplers.values()))

    @property
    def upsampler_steps(self) -> int:
        """Steps of each upsampler, unless a request says."""
        return max((config.diffusion.sampling.steps for config in self.upsamplers.values()), default=1)

    @torch.inference_mode()
    def project(
        self, image: Tensor | None, text: Tensor, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Conditioning of one row, projected once for all its steps. Without an image embedding: the null
        one.

        image, text: (D,); states: (L, W); mask: (L,).
        """
        conditioning = self._base.conditioning
        dtype = conditioning.null_image.dtype
        image = conditioning.null_image if image is None else image
        parts = conditioning(image.to(dtype)[None], text.to(dtype)[None], states.to(dtype)[None], mask[None])
        return parts[0][0], parts[1][0], parts[2][0]

    def start(self, task: DecoderTask) -> DecoderRow:
        """A row for one picture; its noise is its own, whatever else runs."""
        similarity = 0.0 if task.start is None else task.similarity
        timesteps = self._timesteps(task.steps, task.upsampler_steps, task.size, similarity)
        row = DecoderRow(task, len(timesteps[BASE]), sum(map(len, timesteps.values())) - len(timesteps[BASE]))
        row.start(self._trajectory(row, timesteps))
        return row

    def plan(
        self, *, steps: int, guidance: float, upsampler_steps: int, size: int, similarity: float, context: int
    ) -> list[Segment]:
        """What a row will need of each network. context: the length of its text's states."""
        plan = []
        for part, timesteps in self._timesteps(steps, upsampler_steps, size, similarity).items():
            sampling = self._diffusions[part].sampling
            scale = guidance if part == BASE else sampling.guidance
            plan += segments(part, [sampling.evaluations_at(t, scale) for t in timesteps], (context,))
        return plan

    def call_sizes(self, max_batch: int) -> CallSizes:
        """How many evaluations a call of each network holds."""
        upsamplers = dict.fromkeys(self.upsamplers, self._upsampler_call_size)
        return CallSizes(max_batch, {BASE: self._call_size, **upsamplers})

    def side_of(self, network: str) -> int:
        """The side of the pictures that a network makes, in px."""
        return self.config.side if network == BASE else self.upsamplers[network].side

    def _timesteps(
        self, steps: int, upsampler_steps: int, size: int, similarity: float
    ) -> dict[str, list[int]]:
        """The timesteps in each network that a picture of this size goes through, in order."""
        base = spaced_timesteps(self._schedules[BASE], steps, start=_starting_level(similarity))
        raised = {
            part: spaced_timesteps(self._schedules[part], upsampler_steps)
            for part, config in self.upsamplers.items()
            if config.side <= size
        }
        return {BASE: base, **raised}

    def _trajectory(self, row: DecoderRow, timesteps: dict[str, list[int]]) -> Sampler:
        """Denoise at the base size, then at each larger one up to the picture's."""
        base, *raised = timesteps.items()
        picture = yield from self._denoise(row, BASE, self.config.side, base[1], row.conditioning.start)
        for part, part_timesteps in raised:
            config = self.upsamplers[part]
            row.network = part
            row.guidance = config.diffusion.sampling.guidance
            row.low = raise_to(picture[None], config.side)[0]
            picture = yield from self._denoise(row, part, config.side, part_timesteps, None)
        return picture.clamp(-1, 1)

    def _denoise(
        self, row: DecoderRow, network: str, side: int, timesteps: Sequence[int], start: Tensor | None
    ) -> Sampler:
        diffusion = self._diffusions[network]
        schedule = self._schedules[network]
        generator = generator_for(row.conditioning.seed, network)
        x = torch.randn((3, side, side), generator=generator).to(self.device)
        if start is not None:
            level = schedule.at(timesteps[0])
            x = level**0.5 * _resized(start, side) + (1 - level) ** 0.5 * x
        known = None
        row.known = torch.zeros(4, side, side, device=self.device)
        if row.conditioning.known is not None:
            pixels = _resized(row.conditioning.known.pixels, side)
            keep = _resized(row.conditioning.known.keep, side).floor()
            known = KnownPixels(pixels, keep)
            row.known = known_channels(pixels[None], keep[None])[0]

        def imposed(x0: Tensor) -> Tensor:
            x0 = diffusion.bounded(x0)
            row.x0 = x0 if known is None else diffusion.clipped(known.imposed(x0))
            return row.x0

        return (
            yield from with_x0(
                make_sampler(diffusion.sampling.sampler, schedule, x, timesteps, generator), imposed
            )
        )

    @torch.inference_mode()
    def advance(self, rows: Sequence[DecoderRow]) -> None:
        """Take one denoising step with all rows, which must be in the same network."""
        network = rows[0].network
        diffusion = self._diffusions[network]
        schedule = self._schedules[network]
        evaluate = self._evaluate_base if network == BASE else self._evaluate_upsampler
        call_size = self._call_size if network == BASE else self._upsampler_call_size
        outputs = guided(
            lambda which, conditional: evaluate([rows[i] for i in which], conditional),
            [diffusion.sampling.guidance_at(row.evaluation.t, row.guidance) for row in rows],
            3,
            call_size,
        )
        for row, output in zip(rows, outputs, strict=True):
            x = row.evaluation.x
            t = row.evaluation.t
            variance = output[3:] if diffusion.learned_range else None
            row.advance(Prediction(to_x0(output[:3], x, schedule.at(t), diffusion.prediction), variance))

    def _evaluate_base(self, rows: Sequence[DecoderRow], conditional: Sequence[bool]) -> Tensor:
        tasks = [row.conditioning for row in rows]
        contexts = [t.context if c else t.unconditional for t, c in zip(tasks, conditional, strict=True)]
        time_extra, context, bias = (torch.stack(parts) for parts in zip(*contexts, strict=True))
        known = self._stack([r.known for r in rows], time_extra.dtype) if self.config.inpainting else None
        x, t = self._noisy(rows, time_extra.dtype)
        return self._base.denoise(x, t, known, time_extra, context, bias).float()

    def _evaluate_upsampler(self, rows: Sequence[DecoderRow], conditional: Sequence[bool]) -> Tensor:
        del conditional  # it has none to leave out
        network = self._upsamplers[rows[0].network]
        dtype = next(network.parameters()).dtype
        known = self._stack([r.known for r in rows], dtype) if network.config.inpainting else None
        x, t = self._noisy(rows, dtype)
        output: Tensor = network(x, t, self._stack([r.low for r in rows], dtype), known)
        return output.float()

    def _noisy(self, rows: Sequence[DecoderRow], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        pending = [row.evaluation for row in rows]
        return torch.stack([p.x for p in pending]).to(dtype), torch.tensor(
            [p.t for p in pending], device=self.device
        )

    @staticmethod
    def _stack(parts: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        return torch.stack([p for p in parts if p is not None]).to(dtype)


def _starting_level(similarity: float) -> float:
    """Where on the schedule a row begins. 1 is pure noise; the more similar to a starting picture, the less.

    Linear in timesteps, as SDEdit's (arXiv 2108.01073) noise level is chosen.
    """
    return MAX_START_SHARE * (1 - similarity) if similarity > 0 else 1.0


def _resized(pixels: Tensor, side: int) -> Tensor:
    """(C, S, S) to (C, side, side), antialiased."""
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels[None], size=(side, side), mode="area")[0]
