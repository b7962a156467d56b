"""The family that both sides run: Kandinsky 2.2 in its real layout, with 80 million random weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from services.bundles.bundle import ROOT
from tests.importing.checkpoints import kandinsky_decoder, kandinsky_prior, seeded

DIM = 256
PARTS = ("prior", "decoder")


def make(folder: Path) -> None:
    """Write the pipelines of prior and decoder, and the bundle that is imported from them."""
    seeded()
    kandinsky_prior(folder / "prior", DIM, text_layers=4, heads=8, head_dim=64, layers=6)
    kandinsky_decoder(
        folder / "decoder",
        movq_channels=(64, 64, 128, 192),
        sample_size=64,
        block_out_channels=(128, 192, 320, 448),
        layers_per_block=2,
        cross_attention_dim=256,
        attention_head_dim=64,
        encoder_hid_dim=DIM,
    )
    command = [sys.executable, "-m", "gateway.cli", "model", "import", "--name", "peers"]
    paths = [str(folder / part) for part in (*PARTS, "bundle")]
    subprocess.run([*command, *paths], cwd=ROOT, check=True, capture_output=True)
