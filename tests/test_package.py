"""The package's metadata."""

from __future__ import annotations

import re
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


def test_the_tests_that_the_threats_name_are_there() -> None:
    page = (ROOT / "docs/security.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    named = {name for line in table for name in re.findall(r"`([a-z_/]+(?:\.py)?)`", line.split("|")[-2])}
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / "tests" / name).exists()]
