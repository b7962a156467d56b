"""The bundle's stages in one process, without Ray or gRPC: the very code that the replicas run, for evaluation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.clip import load_clip
from services.bundles.clip_source import ClipSource
from services.decoder.sampler import BASE, UPSAMPLERS, DecoderSampler, DecoderTask, Picture
from services.editing.canvas import Canvas, Margins
from services.image_encoder.encoder import ImageEncoder
from services.prior.sampler import PriorConditioning, PriorRow, PriorSampler, Text
from services.text_encoder.encoder import EncodedText, TextEncoder
from services.training import loop

Pictures = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; ``Painter.defaults`` has the bundle's own values."""

    size: int
    candidates: int
    prior_steps: int
    prior_guidance: float
    decoder_steps: int
    decoder_guidance: float
    upsampler_steps: int


class Painter:
    """Draws batches of pictures; picture i of a call has seed ``seed + i``, whatever the batch."""

    def __init__(self, bundle: Path, threads: int) -> None:
        clip = load_clip(ClipSource(bundle=str(bundle)), threads)
        self._text, self._image = TextEncoder(clip), ImageEncoder(clip)
        self._open(bundle)

    def _open(self, bundle: Path) -> None:
        opened = Bundle(bundle, "prior", BASE, UPSAMPLERS)
        self.version = opened.manifest.version
        self.prior, self.decoder = (
            PriorSampler(opened, call_size=0),
            DecoderSampler(opened, upsampler_call_size=1),
        )

    def with_bundle(self, bundle: Path) -> Painter:
        """A painter with another bundle's prior and decoder, and the same CLIP."""
        other = copy.copy(self)
        other._open(bundle)
        return other

    def defaults(self, size: int) -> Settings:
        """What a request of this size that says nothing else gets."""
        prior, decoder = self.prior.config.diffusion.sampling, self.decoder.config.diffusion.sampling
        return Settings(
            size,
            2,
            prior.steps,
            prior.guidance,
            decoder.steps,
            decoder.guidance,
            self.decoder.upsampler_steps,
        )

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], settings: Settings, seed: int) -> Pictures:
        """Pictures of prompts: (n, size, size, 3)."""
        blank, *texts = self._text.encode(["", *prompts])
        return self._decode(self._embed(texts, blank, settings, seed), texts, blank, settings, seed)

    @torch.inference_mode()
    def inpaint(
        self, canvases: Sequence[Canvas], prompts: Sequence[str], settings: Settings, seed: int
    ) -> list[Pictures]:
        """Canvases with their holes painted, each as large as it was. All have the same number of frames."""
        blank, *texts = self._text.encode(["", *prompts])
        embeddings = self._embed(texts, blank, settings, seed)
        while all(frames := [canvas.next_frame() for canvas in canvases]):
            placed = [
                (canvas, frame) for canvas, frame in zip(canvases, frames, strict=True) if frame is not None
            ]
            known = [self._known(*canvas.view(frame, settings.size)) for canvas, frame in placed]
            for (canvas, frame), picture in zip(
                placed, self._decode(embeddings, texts, blank, settings, seed, known=known), strict=True
            ):
                canvas.paint(frame, picture)
        return [canvas.pixels for canvas in canvases]

    def outpaint(
        self, pictures: Pictures, margins: Margins, prompts: Sequence[str], settings: Settings, seed: int
    ) -> list[Pictures]:
        """Pictures extended past their borders."""
        return self.inpaint([Canvas.extended(p, margins) for p in pictures], prompts, settings, seed)

    @torch.inference_mode()
    def vary(self, pictures: Pictures, similarity: float, settings: Settings, seed: int) -> Pictures:
        """Pictures like the given ones, (n, size, size, 3)."""
        blank = self._text.encode([""])[0]
        embeddings = [torch.from_numpy(self._image.encode(p)).to(loop.device()) for p in pictures]
        starts = [_signal(p) for p in pictures] if similarity > 0 else None
        return self._decode(
            embeddings, [blank] * len(pictures), blank, settings, seed, starts=starts, similarity=similarity
        )

    def _embed(
        self, texts: Sequence[EncodedText], blank: EncodedText, settings: Settings, seed: int
    ) -> list[Tensor]:
        groups: list[list[PriorRow]] = []
        for i, text in enumerate(texts):
            conditioning = PriorConditioning(Text(*_tensors(text)), Text(*_tensors(blank)))
            groups.append(
                [
                    self.prior.start(
                        conditioning,
                        seed=seed + i,
                        candidate=c,
                        steps=settings.prior_steps,
                        guidance=settings.prior_guidance,
                    )
                    for c in range(settings.candidates)
                ]
            )
        while running := [row for group in groups for row in group if not row.finished]:
            self.prior.advance(running)
        return [self.prior.best(group)[0] for group in groups]

    def _decode(
        self,
        embeddings: Sequence[Tensor],
        texts: Sequence[EncodedText],
        blank: EncodedText,
        settings: Settings,
        seed: int,
        *,
        known: Sequence[Picture] | None = None,
        starts: Sequence[Tensor] | None = None,
        similarity: float = 0.0,
    ) -> Pictures:
        unconditional = self.decoder.project(None, *_tensors(blank))
        rows = [
            self.decoder.start(
                DecoderTask(
                    context=self.decoder.project(embedding, *_tensors(text)),
                    unconditional=unconditional,
                    seed=seed + i,
                    steps=settings.decoder_steps,
                    guidance=settings.decoder_guidance,
                    upsampler_steps=settings.upsampler_steps,
                    size=settings.size,
                    known=None if known is None else known[i],
                    start=None if starts is None else starts[i],
                    similarity=similarity,
                )
            )
            for i, (text, embedding) in enumerate(zip(texts, embeddings, strict=True))
        ]
        while running := [row for row in rows if not row.finished]:
            self.decoder.advance(running)
        results = torch.stack([row.result for row in rows if row.result is not None])
        return ((results + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    @staticmethod
    def _known(pixels: Pictures, keep: Pictures) -> Picture:
        return Picture(_signal(pixels), torch.from_numpy(keep).to(loop.device())[None].float() / 255)


def _signal(pixels: Pictures) -> Tensor:
    return torch.from_numpy(pixels.copy()).to(loop.device()).permute(2, 0, 1).float() / 127.5 - 1


def _tensors(text: EncodedText) -> tuple[Tensor, Tensor, Tensor]:
    arrays = (text.embedding, text.states, text.mask)
    embedding, states, mask = (torch.from_numpy(a).to(loop.device()) for a in arrays)
    return embedding, states, mask
