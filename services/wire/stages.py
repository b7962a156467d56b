"""The four stages, by the names that applications, settings and metrics share."""

from __future__ import annotations

from typing import Literal, get_args

StageName = Literal["text_encoder", "image_encoder", "prior", "decoder"]
STAGES: tuple[StageName, ...] = get_args(StageName)
# The metadata of a call on a stage: which application is meant, and for which request.
APPLICATION_KEY = "application"
REQUEST_ID_KEY = "request_id"
# Ray Serve's proxy answers this itself, without asking a replica.
PROXY_HEALTH = "/ray.serve.RayServeAPIService/Healthz"


def spoken(stage: str) -> str:
    """The name as a sentence has it: "text encoder"."""
    return stage.replace("_", " ")
