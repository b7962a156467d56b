"""What the simulation knows of a device and a model: seconds of network calls, measured by a live stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from services.engine import CallSizes, EngineLimits, Segment
from services.engine.settings import EngineSettings

PROFILES = Path(__file__).parent / "profiles"


class Call(BaseModel):
    """A network call: its evaluations, and the seconds that it takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluations: int = Field(ge=1)
    seconds: float = Field(gt=0)


class NetworkProfile(BaseModel):
    """One network. size: of the pictures that it makes, in px; 0: none. call_sizes: as in its Serve config.

    steps: unless a request says. evaluations: of a step, in the mean: 2 in each that takes guidance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    call_sizes: tuple[PositiveInt, ...] = ()
    steps: int = Field(ge=1)
    evaluations: float = Field(default=1, ge=1, le=2)
    calls: tuple[Call, ...] = Field(min_length=1)

    def segments(self, steps: int = 0) -> list[Segment]:
        """What a row needs of it, the steps with guidance first. steps: 0: its own."""
        steps = steps or self.steps
        guided = round((self.evaluations - 1) * steps)
        parts = ((guided, 2), (steps - guided, 1))
        return [Segment(str(self.size), count, evaluations) for count, evaluations in parts if count]

    def seconds(self, evaluations: int) -> float:
        """What a call with so many evaluations takes; it is padded to a call's size."""
        padded = max(evaluations, min(self.call_sizes, default=1))
        known = sorted((call.evaluations, call.seconds) for call in self.calls)
        most, longest = known[-1]
        if padded > most:
            return longest * padded / most
        return float(np.interp(padded, [count for count, _ in known], [seconds for _, seconds in known]))


class StageProfile(BaseModel):
    """A sampling stage. networks: in the order that a picture goes through them. rows: of each picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: tuple[NetworkProfile, ...] = Field(min_length=1)
    rows: int = Field(default=1, ge=1)
    engine: EngineSettings

    @property
    def limits(self) -> EngineLimits:
        """Of one replica."""
        return self.engine.limits

    @property
    def call_sizes(self) -> CallSizes:
        """Of one replica's networks, by their names here."""
        return CallSizes(self.engine.max_batch, {str(n.size): n.call_sizes for n in self.networks})

    def network(self, name: str) -> NetworkProfile:
        """By its name here."""
        return next(network for network in self.networks if str(network.size) == name)

    def plan(self, steps: int = 0) -> list[Segment]:
        """What a row needs. steps: in the first network; 0: its own."""
        first, *rest = self.networks
        return [*first.segments(steps), *(segment for network in rest for segment in network.segments())]

    @property
    def pictures_a_second(self) -> float:
        """The most that one replica makes, with full calls."""
        seconds = 0.0
        for segment in self.plan():
            rows = self.call_sizes.rows(segment)
            call = self.network(segment.network).seconds(rows * segment.evaluations)
            seconds += self.rows * segment.steps * call / rows
        return 1 / seconds


class Profile(BaseModel):
    """A device with a model. encoder_seconds: of a text. hop_seconds: gateway to stage, one way.

    step_overhead_seconds: between two steps. noise: standard deviation of a step's duration over its mean.
    cold_start_seconds: from the decision to a replica that serves. hourly_price: of one replica's device, in
    any currency.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    model: str
    prior: StageProfile
    decoder: StageProfile
    encoder_seconds: float = Field(ge=0)
    hop_seconds: float = Field(default=0.002, ge=0)
    step_overhead_seconds: float = Field(default=0.002, ge=0)
    noise: float = Field(default=0.05, ge=0)
    cold_start_seconds: float = Field(default=60.0, ge=0)
    hourly_price: float = Field(default=1.0, ge=0)

    def saturated(self, pictures_a_second: float) -> Profile:
        """With the overhead by which a decoder that is always busy makes so many pictures a second."""
        steps = sum(network.steps for network in self.decoder.networks)
        beside = 1 / pictures_a_second - 1 / self.decoder.pictures_a_second
        return self.model_copy(update={"step_overhead_seconds": max(0.0, beside / steps)})

    @classmethod
    def load(cls, name: str) -> Profile:
        """By a file's path, or by the name of one that comes along. Raises OSError and ValidationError."""
        shipped = PROFILES / f"{name}.json"
        return cls.model_validate_json((shipped if shipped.exists() else Path(name)).read_bytes())
