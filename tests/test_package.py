"""The package's metadata."""

from __future__ import annotations

import tomllib

from services.bundles.bundle import ROOT


def names(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def test_the_package_needs_what_the_locks_are_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    gateway = project["dependencies"]
    assert gateway == names("requirements-gateway.in")
    assert sorted(gateway + project["optional-dependencies"]["stages"]) == names("requirements.in")


def test_locks_hold_names_versions_and_hashes_but_no_addresses() -> None:
    """npm writes those of donations anew: take its "funding" entries out."""
    locks = [*ROOT.glob("requirements*.lock"), ROOT / "package-lock.json"]
    assert len(locks) > 4
    assert not [lock.name for lock in locks if "://" in lock.read_text()]
