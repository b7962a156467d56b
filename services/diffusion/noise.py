"""Random numbers that belong to one row: a generator for every seed and purpose, the same on every device."""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator drawn from the row's seed and what it is for ("prior", candidate...), independent of all others."""
    text = "/".join(map(str, (seed, *purpose)))
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    )
