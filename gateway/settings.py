"""The gateway's settings, from the environment: addresses of the stages, where to listen, and limits."""

from __future__ import annotations

import json
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.addresses import is_loopback, require_safe
from gateway.memory import held_bytes
from gateway.quota import Quota
from services.editing.pictures import PictureLimits
from services.telemetry.logs import LogFormat
from services.wire.models import ALIAS, PATTERN, is_model_name
from services.wire.stages import STAGES, StageName

PREFIX = "UNCLIP_"
OVERHEAD_BYTES = 2**20  # of a request, beside a picture and a mask
SHIPPED = "unclip-emoji"  # the model whose bundle is in the repository
# Of JSON Web Tokens: with a public key, so that it is never taken for a secret.
SignatureAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class StageTarget(NamedTuple):
    """Whom a stage's calls go to: an application of Ray Serve, and the address of its proxies."""

    application: str
    address: str

    @classmethod
    def parse(cls, text: str) -> StageTarget:
        """What APPLICATION@ADDRESS says; parts that are missing are empty."""
        application, _, address = text.partition("@")
        return cls(application, address)


class Settings(BaseSettings):
    """Each field is an environment variable: its name in capitals after ``UNCLIP_``, such as UNCLIP_PORT."""

    # Values are not repeated in errors: a Redis URL may hold a password.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535)
    # Where the Images API listens; 0: on a port that is drawn; not set: nowhere.
    http_port: int | None = Field(default=None, ge=0, le=65535)
    # How callers reach it, for pictures that answers name by URL; empty: as they wrote it in their request.
    http_url: str = ""
    # How answers give pictures if a request does not say: as OpenAI did, or "b64_json".
    http_response_format: Literal["url", "b64_json"] = "url"
    # Where these pictures are kept for an hour: in memory, so many bytes of them at most, or in a store that
    # several gateways share: file:///folder, s3://bucket/prefix, gs://bucket, az://container.
    picture_store: str = Field(default="memory", pattern=r"^(memory|(file|s3|gs|az)://.+)$")
    picture_store_bytes: int = Field(default=64 * 2**20, ge=32 * 2**20)
    # Whether pictures carry a C2PA manifest, and the PEM files that sign it: a certificate chain and its
    # ES256 key. Without them a key is made at start, which nobody vouches for, and is named as such.
    provenance: bool = True
    provenance_certificate: str = ""
    provenance_key: str = ""
    # PEM files of both listeners: a certificate chain and its key; and the CA that callers' certificates
    # need, for mutual TLS. They are read again when they change.
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    # Listen beyond this machine though there is neither TLS nor a file of tokens.
    insecure: bool = False
    # The file of API tokens (unclip token create); empty: anybody who reaches the gateway may call.
    tokens: str = ""
    # An identity provider (OpenID Connect) whose JSON Web Tokens callers may bring instead: who issues them,
    # for whom, and the file or URL of the public keys (JWKS). Seconds that clocks may differ; which claims
    # tell the tenant and the scopes (a list, or words; "unclip:generate" is generate).
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_keys: str = ""
    jwt_algorithms: Annotated[tuple[SignatureAlgorithm, ...], NoDecode] = ("RS256", "ES256")
    jwt_leeway: float = Field(default=30.0, ge=0, le=600)
    jwt_tenant_claim: str = "sub"
    jwt_scope_claim: str = "scope"
    # What tenants may ask for, as JSON: {"TENANT": {"pictures": 60, "megapixel_steps": 600, "in_flight": 4}},
    # a minute and at a time; "*" is for all others. In shadow mode they are only counted.
    quotas: dict[str, Quota] = {}
    quota_shadow: bool = False
    # Where minutes are counted, and answers kept by idempotency key: in memory, or in a Redis that gateways
    # share. Without an answer of Redis requests go on as if there were neither, or are refused.
    shared_store: str = Field(default="memory", pattern=r"^(memory|rediss?://.+)$")
    shared_store_open_on_failure: bool = True
    # Content rules: a file of words that prompts may not have, one word or phrase a line; and who looks at
    # every result, as MODULE:NAME of what makes an object with score(PIL.Image) -> float, and from which
    # score on a picture is not given out.
    refused_words: str = ""
    picture_classifier: str = Field(default="", pattern=r"^([\w.]+:\w+)?$")
    picture_classifier_threshold: float = Field(default=0.8, ge=0, le=1)
    # Where Prometheus finds /metrics; 0: nowhere.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # How log lines are written; prompts are in them only if asked for.
    log_format: LogFormat = "text"
    log_prompts: bool = False

    # The models that are served, as JSON: {"NAME": {"STAGE": "APPLICATION@ADDRESS"}}. Requests that name none
    # are for the first. A stage that is not named is the application of its own name, at the address below.
    models: dict[str, dict[StageName, str]] = {SHIPPED: {}}
    # A name and port, or several addresses with commas between; all are called in turn.
    text_encoder_address: str = "127.0.0.1:9000"
    image_encoder_address: str = "127.0.0.1:9000"
    prior_address: str = "127.0.0.1:9000"
    decoder_address: str = "127.0.0.1:9000"
    # Stages are called over TLS if a CA is named (a PEM file, or "system"); with a certificate, if a proxy
    # before them asks for one.
    stage_tls_ca: str = ""
    stage_tls_certificate: str = ""
    stage_tls_key: str = ""
    # Stages that may have no replica while nobody needs them, as MODEL/STAGE with commas between: looks do
    # not wake them.
    sleeping_stages: Annotated[tuple[str, ...], NoDecode] = ()
    # The most seconds a request may take, whatever its caller's deadline.
    request_timeout: float = Field(default=600.0, gt=0)
    # Seconds between looks at the stages.
    look_interval: float = Field(default=2.0, gt=0)
    # A connection that is silent for one and a half times as many seconds is left.
    keepalive_seconds: float = Field(default=15.0, ge=1)
    # A call to a stage that says nothing for so many seconds is made again. Sampling stages give a sign of
    # life every five seconds, and other calls are short.
    stage_silence_seconds: float = Field(default=25.0, gt=0)
    # Seconds after which connections, of clients and to stages, are opened anew: so clients spread over all
    # gateways, and gateways over all proxies. Calls on the old ones end first.
    max_connection_seconds: float = Field(default=600.0, gt=0)

    # Texts, and pictures, whose encoding is kept, and for how many seconds.
    encoder_cache_size: int = Field(default=1024, ge=0)
    encoder_cache_seconds: float = Field(default=600.0, gt=0)
    # Seconds that running requests are given when the gateway stops.
    stop_grace: float = Field(default=30.0, ge=0)
    # Requests at a time, and the memory in bytes that their pictures may take; more are refused for now.
    max_requests: int = Field(default=256, ge=1)
    max_bytes_in_work: int = Field(default=384 * 2**20, ge=1)

    max_n: int = Field(default=10, ge=1)
    max_prompt_characters: int = Field(default=1000, ge=1)
    max_steps: int = Field(default=250, ge=1)
    max_guidance: float = Field(default=20.0, ge=1)
    max_prior_candidates: int = Field(default=16, ge=1)
    max_captions: int = Field(default=100, ge=2)
    max_picture_bytes: int = Field(default=16 * 2**20, ge=1)
    max_picture_pixels: int = Field(default=4 * 2**20, ge=1)
    # Of all pictures that a request is answered with.
    max_result_pixels: int = Field(default=10 * 2**20, ge=1)
    # Of a JPEG that is read at a reduced size.
    max_reduced_pixels: int = Field(default=64 * 10**6, ge=1)
    # A hole is painted in square frames: one of many parts, or far from what is known, would take any number.
    max_frames: int = Field(default=24, ge=1)
    max_aspect_ratio: float = Field(default=8.0, ge=1)

    @model_validator(mode="after")
    def _fit(self) -> Settings:
        pictures = held_bytes(2 * self.max_picture_pixels, self.max_picture_pixels, self.max_result_pixels)
        largest = pictures + self.max_request_bytes
        if self.max_result_pixels < self.max_picture_pixels:
            raise ValueError("max_result_pixels: must be at least max_picture_pixels")
        for pair in ("provenance", "tls", "stage_tls"):
            if bool(getattr(self, f"{pair}_certificate")) != bool(getattr(self, f"{pair}_key")):
                raise ValueError(f"{pair}_certificate and {pair}_key: both are needed, or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca: needs tls_certificate and tls_key")
        if self.stage_tls_certificate and not self.stage_tls_ca:
            raise ValueError("stage_tls_certificate: needs stage_tls_ca")
        if any((self.jwt_issuer, self.jwt_audience, self.jwt_keys)):
            if not all((self.jwt_issuer, self.jwt_audience, self.jwt_keys)):
                raise ValueError("jwt_issuer, jwt_audience and jwt_keys: all are needed, or none")
            require_safe("jwt_keys", self.jwt_keys)
        guarded = self.tls_certificate or self.tokens or self.jwt_keys or self.insecure
        if not guarded and not is_loopback(self.host):
            raise ValueError(
                f"host: {self.host} can be reached from other machines, by anybody and in the clear; set"
                " UNCLIP_TLS_CERTIFICATE and UNCLIP_TLS_KEY, UNCLIP_TOKENS, UNCLIP_JWT_KEYS or"
                " UNCLIP_INSECURE=true"
            )
        if largest > self.max_bytes_in_work:
            reason = "the largest request that the other limits allow"
            raise ValueError(f"max_bytes_in_work: must be at least {largest}, for {reason}")
        return self

    @field_validator("models")
    @classmethod
    def _named(cls, models: dict[str, dict[StageName, str]]) -> dict[str, dict[StageName, str]]:
        if not models:
            raise ValueError("must have at least one model")
        for name, targets in models.items():
            if not is_model_name(name):
                raise ValueError(f"{name!r:.80} is no name: {PATTERN}, other than {ALIAS}")
            for target in targets.values():
                if not all(StageTarget.parse(target)):
                    raise ValueError(f"{name}: {target!r:.200} is not of the form APPLICATION@ADDRESS")
        return models

    @model_validator(mode="after")
    def _sleepers_are_served(self) -> Settings:
        served = [f"{model}/{stage}" for model in self.models for stage in STAGES]
        for name in self.sleeping_stages:
            if name not in served:
                raise ValueError(f"sleeping_stages: {name!r:.80} is none of {', '.join(served)}")
        return self

    @field_validator("sleeping_stages", "jwt_algorithms", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    def environment(self) -> dict[str, str]:
        """The variables that give another process these settings."""
        values = self.model_dump()
        return {PREFIX + name.upper(): _written(value) for name, value in values.items() if value is not None}

    def target(self, model: str, stage: StageName) -> StageTarget:
        """Where a model's stage is found."""
        if named := self.models[model].get(stage):
            return StageTarget.parse(named)
        return StageTarget(stage, getattr(self, f"{stage}_address"))

    def sleeping(self, model: str) -> tuple[StageName, ...]:
        """A model's stages that may have no replica; one that is shared sleeps for all."""
        sleepers = {
            (stage, self.target(name, stage))
            for name in self.models
            for stage in STAGES
            if f"{name}/{stage}" in self.sleeping_stages
        }
        return tuple(stage for stage in STAGES if (stage, self.target(model, stage)) in sleepers)

    def borrowed(self, model: str) -> tuple[StageName, ...]:
        """A model's stages that are those of a model before it."""
        before = list(self.models)[: list(self.models).index(model)]
        taken = {(stage, self.target(name, stage)) for name in before for stage in STAGES}
        return tuple(stage for stage in STAGES if (stage, self.target(model, stage)) in taken)

    @property
    def picture_limits(self) -> PictureLimits:
        """Those of one picture or mask."""
        return PictureLimits(self.max_picture_bytes, self.max_picture_pixels, self.max_reduced_pixels)

    @property
    def max_request_bytes(self) -> int:
        """Of a whole request: a picture, a mask, and little else."""
        return 2 * self.max_picture_bytes + OVERHEAD_BYTES

    @property
    def readers(self) -> int:
        """Requests received at a time: as many as there is memory for, were each as large as allowed."""
        return max(4, self.max_bytes_in_work // self.max_request_bytes)


def _written(value: object) -> str:
    """A setting's value, as its variable has it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
