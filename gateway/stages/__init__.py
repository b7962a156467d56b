"""Typed clients of the four stages: arrays in, arrays and events out, errors that name the stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.settings import Settings, StageTarget
from gateway.stages.backlog import Backlog, SamplingStage
from gateway.stages.channel import StageChannel
from gateway.stages.decoder import Decoder
from gateway.stages.image_encoder import ImageEncoder
from gateway.stages.prior import Prior
from gateway.stages.text_encoder import TextEncoder
from services.wire.stages import STAGES, StageName


@dataclass(frozen=True)
class Stages:
    """A model's four stages, each with its own channel."""

    text_encoder: TextEncoder
    image_encoder: ImageEncoder
    prior: Prior
    decoder: Decoder

    @property
    def channels(self) -> tuple[StageChannel, ...]:
        """In the order of the pipeline."""
        return self.text_encoder.channel, self.image_encoder.channel, self.prior.channel, self.decoder.channel

    @property
    def encoders(self) -> dict[StageName, TextEncoder | ImageEncoder]:
        """Those that remember what they encoded."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    @property
    def backlogs(self) -> dict[SamplingStage, Backlog]:
        """What the sampling stages have told of their load."""
        return {"prior": self.prior.backlog, "decoder": self.decoder.backlog}

    def backlog(self, name: StageName) -> Backlog | None:
        """What this stage has told of its load, if it is a sampling stage."""
        return self.backlogs[name] if name in ("prior", "decoder") else None


class Clients:
    """Clients of every model's stages. Models that name the same target share its client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[tuple[StageName, StageTarget], Any] = {}

    def of(self, model: str) -> Stages:
        """A model's stages; nothing is sent yet."""
        return Stages(**{stage: self._client(model, stage) for stage in STAGES})

    async def close(self) -> None:
        """Close the channels."""
        for client in self._clients.values():
            await client.channel.close()

    def _client(self, model: str, stage: StageName) -> Any:
        target = self._settings.target(model, stage)
        if (stage, target) not in self._clients:
            sleeps = stage in self._settings.sleeping(model)
            channel = StageChannel(stage, target, self._settings, sleeps=sleeps)
            self._clients[stage, target] = self._made(stage, channel)
        return self._clients[stage, target]

    def _made(self, stage: StageName, channel: StageChannel) -> Any:
        encoders: dict[StageName, Any] = {"text_encoder": TextEncoder, "image_encoder": ImageEncoder}
        if stage in encoders:
            settings = self._settings
            return encoders[stage](channel, settings.encoder_cache_size, settings.encoder_cache_seconds)
        return Prior(channel) if stage == "prior" else Decoder(channel)
