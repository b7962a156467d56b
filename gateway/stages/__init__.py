"""Typed clients of the four stages: arrays in, arrays and events out, errors that name the stage."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings import Settings
from gateway.stages.backlog import Backlog, SamplingStage
from gateway.stages.channel import StageChannel
from gateway.stages.decoder import Decoder
from gateway.stages.image_encoder import ImageEncoder
from gateway.stages.prior import Prior
from gateway.stages.text_encoder import TextEncoder
from services.wire.stages import StageName


@dataclass(frozen=True)
class Stages:
    """The four stages, each with its own channel."""

    text_encoder: TextEncoder
    image_encoder: ImageEncoder
    prior: Prior
    decoder: Decoder

    @classmethod
    def connect(cls, settings: Settings) -> Stages:
        """Clients for the addresses in the settings; nothing is sent yet."""

        def channel(name: StageName, address: str) -> StageChannel:
            return StageChannel(name, address, settings)

        return cls(
            TextEncoder(
                channel("text_encoder", settings.text_encoder_address),
                settings.text_cache_size,
                settings.text_cache_seconds,
            ),
            ImageEncoder(channel("image_encoder", settings.image_encoder_address)),
            Prior(channel("prior", settings.prior_address)),
            Decoder(channel("decoder", settings.decoder_address)),
        )

    @property
    def channels(self) -> tuple[StageChannel, ...]:
        """In the order of the pipeline."""
        return self.text_encoder.channel, self.image_encoder.channel, self.prior.channel, self.decoder.channel

    @property
    def backlogs(self) -> dict[SamplingStage, Backlog]:
        """What the sampling stages have told of their load."""
        return {"prior": self.prior.backlog, "decoder": self.decoder.backlog}

    def backlog(self, name: StageName) -> Backlog | None:
        """What this stage has told of its load, if it is a sampling stage."""
        return self.backlogs[name] if name in ("prior", "decoder") else None

    async def close(self) -> None:
        """Close the channels."""
        for channel in self.channels:
            await channel.close()
