"""Which machine a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

PACKAGES = {"torch": "torch", "ray": "ray", "grpc": "grpcio", "diffusers": "diffusers"}  # by module
SPEEDS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def describe_machine() -> dict[str, Any]:
    """Its processor's kind, its cores, its GPU, and the versions that matter."""
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return {
        "processor": found.group(1) if found else platform.processor(),
        "vectors": next((name for name in SPEEDS if re.search(rf"\b{name}\b", text)), "unknown"),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "versions": {name: version(name) for module, name in PACKAGES.items() if find_spec(module)},
    }


def best_dtype() -> str:
    """What the processor multiplies fastest."""
    return "bfloat16" if describe_machine()["vectors"] in SPEEDS[:2] else "float32"
