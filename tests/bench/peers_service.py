"""This service's side of a comparison: the local stack with the peers' weights, and what it is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.models import gateway_table, local_models
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from gateway.environment import load_settings
from tests.bench.peers_model import GUIDANCE
from tests.bench.pipelines import PRIOR_STEPS, RAISING_STEPS
from tests.bench.trace import Kind
from unclip.v1 import image_service_pb2 as pb


@contextlib.contextmanager
def service_running(folder: Path) -> Iterator[str]:
    """The whole stack with the imported bundle; yields the gateway's address."""
    models = local_models([str(folder / "bundle")])
    with stages_running(settings=load_stack_settings(), models=models) as stages:
        chosen = {"port": free_port(), "models": gateway_table(models, stages)}
        with gateway_running(stages, load_settings().model_copy(update=chosen)) as address:
            yield address


def request(prompt: str, kind: Kind, count: int = 1) -> pb.GenerateRequest:
    """So many pictures, sampled as the peer samples them."""
    return pb.GenerateRequest(prompt=prompt, size=kind.size, options=_options(kind, count))


def variation(picture: bytes, kind: Kind) -> pb.VaryRequest:
    """What a picture shows, drawn anew: nothing else of it is kept, as by the peer."""
    return pb.VaryRequest(picture=picture, similarity=0, size=kind.size, options=_options(kind, 1))


def _options(kind: Kind, count: int) -> pb.SamplingOptions:
    return pb.SamplingOptions(
        n=count,
        prior_steps=PRIOR_STEPS,
        prior_guidance=GUIDANCE,
        prior_candidates=1,
        decoder_steps=kind.steps,
        decoder_guidance=GUIDANCE,
        upsampler_steps=RAISING_STEPS,
    )
