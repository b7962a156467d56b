"""Pickled weights, turned into safetensors by a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from services.bundles.bundle import BundleError


def converted(files: Sequence[Path], folder: Path) -> list[Path]:
    """The files as safetensors, in this folder. Raises BundleError for one that holds more than tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for file in files:
        target = folder / f"{file.stem}.safetensors"
        command = [sys.executable, "-m", "services.bundles.convert", str(file), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise BundleError(f"{file} cannot be converted: {reason}")
        made.append(target)
    return made
