"""Sampling the decoder. Each row is one picture: through the base network, then through the upsamplers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device, load_network
from services.decoder.known_pixels import KnownPixels, noised_in
from services.decoder.network import (
    Decoder,
    DecoderConfig,
    Upsampler,
    UpsamplerConfig,
    known_channels,
    raise_to,
)
from services.decoder.space import AUTOENCODER, PixelSpace, Space, load_space
from services.decoder.tasks import DecoderRow, DecoderTask, Shape, starting_level
from services.diffusion.calls import Calls
from services.diffusion.graphs import Graphs
from services.diffusion.guidance import guided
from services.diffusion.lanes import Lanes
from services.diffusion.noise import generator_for
from services.diffusion.pixels import resized
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import Sampler, Settle, make_sampler, unsettled, with_x0
from services.diffusion.schedule import spaced_timesteps
from services.engine import CallSizes, Segment, segments

# Parts of the bundle; an upsampler's part is named for its side in px.
BASE = "decoder"
UPSAMPLERS = "upsampler-*"
EDITS = "decoder-inpaint"  # draws instead of the base where something is known, in bundles that have it
PARTS = (BASE, UPSAMPLERS, "last-*", f"{AUTOENCODER}*", f"{EDITS}*")
PIXELS = PixelSpace()


class DecoderSampler:
    """The base network, the upsamplers that follow it, and how rows advance through them."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        call_sizes: Sequence[int] = (),
        upsampler_call_sizes: Sequence[int] = (),
        lanes: Lanes | None = None,
    ) -> None:
        """Load the networks. The call sizes are those of ``Calls``: the base network's, the upsamplers'."""
        self.device = best_device()
        self._graphs = Graphs(self.device)
        bases = {part: bundle.config(part, DecoderConfig) for part in (BASE, *bundle.parts(EDITS))}
        self.config = bases[BASE]
        self._bases = {
            part: load_network(partial(Decoder, config), bundle.weights(part), self.device)
            for part, config in bases.items()
        }
        self.space = load_space(self.config.autoencoder, bundle, self.device)
        configs = {part: bundle.config(part, UpsamplerConfig) for part in bundle.parts(UPSAMPLERS)}
        self.upsamplers = dict(sorted(configs.items(), key=lambda item: item[1].side))
        # By part, those of the last step too.
        raising = self.upsamplers | {c.last: c for c in self.upsamplers.values() if c.last}
        self._upsamplers = {
            part: load_network(partial(Upsampler, config), bundle.weights(part), self.device)
            for part, config in raising.items()
        }
        self._diffusions = {part: config.diffusion for part, config in (bases | raising).items()}
        self._schedules = {part: diffusion.make_schedule() for part, diffusion in self._diffusions.items()}
        # What the engine calls the base networks, by what a call costs: (the part, the side of a square).
        self._base_calls = {
            _base_name(part, side, config): (part, side)
            for part, config in bases.items()
            for side in config.native
        }
        self._call_sizes = dict.fromkeys(self._base_calls, tuple(call_sizes))
        self._call_sizes |= dict.fromkeys(self._upsamplers, tuple(upsampler_call_sizes))
        self._calls = {network: Calls(sizes, lanes) for network, sizes in self._call_sizes.items()}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the pictures that can be made, in px, smallest first."""
        return (*self.config.native, *(config.side for config in self.upsamplers.values()))

    @property
    def default_size(self) -> int:
        """The side of the pictures that the model is made for."""
        return self.sizes[-1] if self.upsamplers else self.config.side

    @property
    def upsampler_steps(self) -> int:
        """Steps of each upsampler, unless a request says."""
        return max((config.diffusion.sampling.steps for config in self.upsamplers.values()), default=1)

    @torch.inference_mode()
    def project(
        self, image: Tensor | None, text: Tensor, states: Tensor, mask: Tensor, *, edits: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Conditioning of one row, projected once for all its steps.

        image, text: (D,), without one the null embedding; states: (L, W); mask: (L,). edits: something of the
        picture is known.
        """
        base = self._bases[self._part(edits)]
        null = base.conditioning.null_image
        given = (null if image is None else image, text, states)
        image, text, states = (part.to(null.dtype)[None] for part in given)
        time_extra, context, bias = base.project(image, text, states, mask[None])
        return time_extra[0], context[0], bias[0]

    def start(self, task: DecoderTask) -> DecoderRow:
        """A row for one picture; its noise is its own, whatever else runs."""
        similarity = 0.0 if task.start is None else task.similarity
        edits = task.known is not None
        timesteps = self._timesteps(task.steps, task.upsampler_steps, task.shape, similarity, edits)
        base, *raised = timesteps
        row = DecoderRow(base, task, len(timesteps[base]), sum(len(timesteps[part]) for part in raised))
        row.start(self._trajectory(row, timesteps))
        return row

    def plan(
        self,
        *,
        steps: int,
        guidance: float,
        upsampler_steps: int,
        shape: Shape,
        similarity: float,
        context: int,
        edits: bool,
    ) -> list[Segment]:
        """What a row will need of each network. context: the length of its text's states."""
        plan = []
        drawn = self._drawn(self._part(edits), shape)
        for network, timesteps in self._timesteps(steps, upsampler_steps, shape, similarity, edits).items():
            sampling = self._diffusions[self._part_of(network)].sampling
            scale = guidance if self.is_base(network) else sampling.guidance
            evaluations = [sampling.evaluations_at(t, scale) for t in timesteps]
            last = self._last(network)
            alike = (context, *drawn) if self.is_base(network) else (context,)  # in rows that share a call
            plan += segments(network, evaluations[:-1] if last else evaluations, alike)
            plan += segments(last, evaluations[-1:] if last else [], alike)
        return plan

    def call_sizes(self, max_batch: int) -> CallSizes:
        """How many evaluations a call of each network holds."""
        return CallSizes(max_batch, self._call_sizes)

    def is_base(self, network: str) -> bool:
        """Whether a network is the base one, at any shape."""
        return network in self._base_calls

    def _part_of(self, network: str) -> str:
        """The part of the bundle that a network is."""
        return self._base_calls[network][0] if self.is_base(network) else network

    def _part(self, edits: bool) -> str:
        """The base network that draws."""
        return EDITS if edits and EDITS in self._bases else BASE

    def side_of(self, network: str) -> int:
        """The side of the square pictures that a network makes, or of squares that cost as much, in px."""
        return (
            self._base_calls[network][1] if self.is_base(network) else self._upsamplers[network].config.side
        )

    def _last(self, part: str) -> str:
        """The network that takes the last step in a part's stead; empty: none does."""
        return self.upsamplers[part].last if part in self.upsamplers else ""

    def _timesteps(
        self, steps: int, upsampler_steps: int, shape: Shape, similarity: float, edits: bool
    ) -> dict[str, list[int]]:
        """The timesteps in each network that a picture of this shape goes through, in order."""
        part = self._part(edits)
        config = self._bases[part].config
        drawn = self._drawn(part, shape)
        base = spaced_timesteps(self._schedules[part], steps, start=starting_level(similarity))
        raised = {
            part: spaced_timesteps(self._schedules[part], upsampler_steps)
            for part, config in self.upsamplers.items()
            if drawn[0] < config.side <= shape[0]
        }
        side = min(config.native, key=lambda side: abs(side * side - drawn[0] * drawn[1]))
        return {_base_name(part, side, config): base, **raised}

    def _drawn(self, part: str, shape: Shape) -> Shape:
        """The shape that the base network draws for a picture, which is then raised to its own."""
        config = self._bases[part].config
        height, width = shape
        return shape if height != width or height in config.native else (config.side, config.side)

    def _trajectory(self, row: DecoderRow, timesteps: dict[str, list[int]]) -> Sampler:
        """Denoise at a native size, then at each larger one up to the picture's."""
        base, *raised = timesteps.items()
        sample = yield from self._denoise(row, *base, self.space, row.conditioning.start)
        picture = self.space.decode(sample)
        for part, part_timesteps in raised:
            config = self.upsamplers[part]
            row.network = part
            row.guidance = config.diffusion.sampling.guidance
            row.low = raise_to(picture[None], config.side)[0]
            picture = yield from self._denoise(row, part, part_timesteps, PIXELS, None)
        return picture.clamp(-1, 1)

    def _denoise(
        self, row: DecoderRow, network: str, timesteps: Sequence[int], space: Space, start: Tensor | None
    ) -> Sampler:
        diffusion = self._diffusions[self._part_of(network)]
        schedule = self._schedules[self._part_of(network)]
        generator = generator_for(row.conditioning.seed, BASE if self.is_base(network) else network)
        height, width = self.side_of(network), self.side_of(network)
        if self.is_base(network):
            height, width = self._drawn(self._part_of(network), row.conditioning.shape)
        shape = (space.channels, height // space.factor, width // space.factor)
        noise = torch.randn(shape, generator=generator).to(self.device)
        x = noise
        if start is not None:
            level = schedule.at(timesteps[0])
            x = level**0.5 * space.encode(resized(start, (height, width))) + (1 - level) ** 0.5 * noise
        row.known = torch.zeros(shape[0] + 1, *shape[1:], device=self.device)
        known: KnownPixels | None = None
        settle: Settle = unsettled
        if row.conditioning.known is not None:
            places = space.encode(resized(row.conditioning.known.pixels, (height, width)))
            keep = space.known(resized(row.conditioning.known.keep, (height, width)).floor())
            row.known = known_channels(places[None], keep[None])[0]
            if self._bases[self._part(edits=True)].config.imposing == "noised":
                settle = noised_in(schedule, places, keep, noise)
            else:
                known = KnownPixels(places, keep)

        def imposed(x0: Tensor) -> Tensor:
            x0 = diffusion.bounded(x0)
            row.x0 = x0 if known is None else diffusion.clipped(known.imposed(x0))
            return row.x0

        sampler = make_sampler(diffusion.sampling.sampler, schedule, x, timesteps, generator, settle)
        if last := self._last(network):
            sampler = row.ending_in(last, len(timesteps), sampler)
        return (yield from with_x0(sampler, imposed))

    @torch.inference_mode()
    def advance(self, rows: Sequence[DecoderRow]) -> None:
        """Take one denoising step with all rows, which must be in the same network."""
        network = rows[0].network
        diffusion = self._diffusions[self._part_of(network)]
        schedule = self._schedules[self._part_of(network)]
        base = self.is_base(network)
        evaluate = self._evaluate_base if base else self._evaluate_upsampler
        channels = (self.space if base else PIXELS).channels
        kind = (network, tuple(rows[0].evaluation.x.shape), len(rows[0].conditioning.context[1]))
        outputs = guided(
            lambda which, conditional: self._calls[network].outputs(
                lambda some, given: evaluate([rows[i] for i in some], given), which, conditional, kind
            ),
            [diffusion.sampling.guidance_at(row.evaluation.t, row.guidance) for row in rows],
            channels,
        )
        for row, output in zip(rows, outputs, strict=True):
            x = row.evaluation.x
            t = row.evaluation.t
            variance = output[channels:] if diffusion.learned_range else None
            x0 = to_x0(output[:channels], x, schedule.at(t), diffusion.prediction)
            row.advance(Prediction(x0, variance))

    def _evaluate_base(self, rows: Sequence[DecoderRow], conditional: Sequence[bool]) -> Tensor:
        tasks = [row.conditioning for row in rows]
        contexts = [t.context if c else t.unconditional for t, c in zip(tasks, conditional, strict=True)]
        time_extra, context, bias = (torch.stack(parts) for parts in zip(*contexts, strict=True))
        base = self._bases[self._part_of(rows[0].network)]
        known = self._stack([r.known for r in rows], time_extra.dtype) if base.config.inpainting else None
        x, t = self._noisy(rows, time_extra.dtype)
        return self._graphs.call(base.denoise, x, t, known, time_extra, context, bias).float()

    def _evaluate_upsampler(self, rows: Sequence[DecoderRow], conditional: Sequence[bool]) -> Tensor:
        del conditional  # it has none to leave out
        network = self._upsamplers[rows[0].network]
        dtype = next(network.parameters()).dtype
        known = self._stack([r.known for r in rows], dtype) if network.config.inpainting else None
        x, t = self._noisy(rows, dtype)
        return self._graphs.call(network, x, t, self._stack([r.low for r in rows], dtype), known).float()

    def _noisy(self, rows: Sequence[DecoderRow], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x = self._stack([row.evaluation.x for row in rows], dtype)
        return x, torch.tensor([row.evaluation.t for row in rows], device=self.device)

    @staticmethod
    def _stack(parts: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        return torch.stack([p for p in parts if p is not None]).to(dtype)


def _base_name(part: str, side: int, config: DecoderConfig) -> str:
    """What the engine calls a base network at one of its native sides: calls of each cost their own."""
    return part if side == config.side else f"{part}-{side}"
