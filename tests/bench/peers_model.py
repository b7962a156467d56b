"""The families that both sides run, in their real layouts, with random weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from services.bundles.bundle import ROOT
from tests.importing.checkpoints import kandinsky_decoder, kandinsky_prior, karlo, seeded

Family = Literal["kandinsky", "karlo"]
DIM = 256
GUIDANCE = 4.0
CHANNELS = (128, 192, 320, 448)
PRIOR = {"heads": 8, "head_dim": 64, "layers": 6}


def _kandinsky(folder: Path) -> tuple[str, ...]:
    """Kandinsky 2.2: 80 million weights."""
    kandinsky_prior(folder / "prior", DIM, text_layers=4, **PRIOR)
    kandinsky_decoder(
        folder / "decoder",
        movq_channels=(64, 64, 128, 192),
        sample_size=64,
        block_out_channels=CHANNELS,
        layers_per_block=2,
        cross_attention_dim=256,
        attention_head_dim=64,
        encoder_hid_dim=DIM,
    )
    return "prior", "decoder"


def _karlo(folder: Path) -> tuple[str, ...]:
    """Karlo: 64 px, raised to 256."""
    karlo(
        folder / "karlo",
        DIM,
        channels=CHANNELS,
        side=64,
        upsampler_channels=(64, 128),
        text_layers=4,
        **PRIOR,
    )
    return "karlo", "variations"


FAMILIES: dict[Family, Callable[[Path], tuple[str, ...]]] = {"kandinsky": _kandinsky, "karlo": _karlo}


def make(folder: Path, family: Family = "kandinsky") -> None:
    """Write a family's pipelines, and the bundle that is imported from them."""
    seeded()
    parts = FAMILIES[family](folder)
    command = [sys.executable, "-m", "services.importing", "--name", "peers"]
    paths = [str(folder / part) for part in (*parts, "bundle")]
    subprocess.run([*command, *paths], cwd=ROOT, check=True, capture_output=True)
