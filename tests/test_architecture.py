"""Who may import whom: arrows run downwards only, through every room, and no module waits for itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from services.bundles.bundle import ROOT

# From the ground up: a room imports rooms above it in this list, and its own.
ORDER = (
    "unclip",
    "unclip_client",
    "services.diffusion",
    "services.engine",
    "services.wire",
    "services.telemetry",
    "services.editing",
    "services.clip",
    "services.bundles",
    "services.serving",
    "services.text_encoder",
    "services.image_encoder",
    "services.prior",
    "services.decoder",
    "services.importing",
    "gateway.metrics",
    "gateway.addresses",
    "gateway.quota",
    "gateway.memory",
    "gateway.settings",
    "gateway.environment",
    "gateway.events",
    "gateway.sizes",
    "gateway.threads",
    "gateway.replacing",
    "gateway.callers",
    "gateway.failures",
    "gateway.identity",
    "gateway.tokens",
    "gateway.tls",
    "gateway.reading",
    "gateway.provenance",
    "gateway.stages",
    "gateway.ledger",
    "gateway.places",
    "gateway.shared_answers",
    "gateway.replays",
    "gateway.quotas",
    "gateway.admission",
    "gateway.pacing",
    "gateway.flows",
    "gateway.readiness",
    "gateway.content",
    "gateway.checks",
    "gateway.drawing_checks",
    "gateway.validation",
    "gateway.convert",
    "gateway.calls",
    "gateway.images",
    "gateway.models",
    "gateway.interceptors",
    "gateway.servicer",
    "gateway.http",
    "gateway.draining",
    "gateway.exporter",
    "gateway.server",
    "gateway.probe",
    "gateway.cli",
    "services.training.device",
    "services.training.optimizer",
    "services.training.features",
    "services.training.loop",
    "services.training.data",
    "services.training.recipes",
    "services.training.evaluation",
    "services.training",
    "deploy.protos",
    "deploy.local",
    "deploy.monitoring",
    "deploy.simulation",
)
# What these rooms may import from elsewhere, beside the standard library, and of our own.
CLOSED = {
    "services.diffusion": {"torch", "pydantic"},
    "services.clip": {"torch", "pydantic", "ftfy", "regex"},
    "services.engine": {"pydantic"},
    "services.wire": {"grpc", "google", "numpy", "unclip"},
    "services.telemetry": {"opentelemetry", "pythonjsonlogger"},
    "services.editing": {"numpy", "PIL"},
    "unclip_client": {"grpc", "google", "PIL", "unclip"},
}
# Of the services, the gateway knows only what stages and gateway share; the stages do not know one another.
SHARED = {"services.wire", "services.telemetry", "services.editing"}
STAGES = {"services.text_encoder", "services.image_encoder", "services.prior", "services.decoder"}


CLIENT = ROOT / "clients/python"


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its name."""
    tops = [(ROOT, top) for top in ("services", "gateway", "deploy")] + [(CLIENT, "unclip_client")]
    files = [(root, file) for root, top in tops for file in sorted((root / top).rglob("*.py"))]
    names = (".".join(file.relative_to(root).with_suffix("").parts) for root, file in files)
    return {name.removesuffix(".__init__"): file for name, (_, file) in zip(names, files, strict=True)}


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in submodules)


def room_of(name: str) -> str | None:
    """The most particular room of the list that a module is in."""
    rooms = [room for room in ORDER if name == room or name.startswith(f"{room}.")]
    return max(rooms, key=len) if rooms else None


def ours(name: str) -> bool:
    return name.split(".")[0] in ("services", "gateway", "deploy", "unclip", "unclip_client")


def test_every_room_is_in_the_list() -> None:
    assert not [name for name in modules() if room_of(name) is None and "." in name]


def test_arrows_run_downwards_only() -> None:
    wrong = []
    for name, file in modules().items():
        room = room_of(name)
        for target in imported(file):
            other = room_of(target) if ours(target) else None
            if room and other and other != room and ORDER.index(other) >= ORDER.index(room):
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_no_module_waits_for_itself() -> None:
    """At run time; what is imported for types alone may look back."""
    graph = {
        name: {target for target in _at_once(file) if target in modules()} - {name}
        for name, file in modules().items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, with the circle


def _at_once(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in submodules)


@pytest.mark.parametrize("room", CLOSED)
def test_closed_rooms_import_only_what_they_may(room: str) -> None:
    for name, file in modules().items():
        if room_of(name) != room:
            continue
        for target in imported(file):
            top = target.split(".")[0]
            known = top in sys.stdlib_module_names or top in CLOSED[room] or room_of(target) == room
            assert known, f"{name} imports {target}"


def test_the_gateway_shares_only_wire_telemetry_and_editing() -> None:
    for name, file in modules().items():
        if name.startswith("gateway"):
            shared = {room_of(target) for target in imported(file) if target.startswith("services")}
            assert shared <= SHARED, name


def test_stages_do_not_know_one_another() -> None:
    for name, file in modules().items():
        if (room := room_of(name)) in STAGES:
            assert not {room_of(target) for target in imported(file)} & (STAGES - {room}), name


def test_only_serving_and_the_apps_know_ray() -> None:
    for name, file in modules().items():
        if any(target.split(".")[0] == "ray" for target in imported(file)):
            assert name.startswith(("services.serving", "deploy.local")) or name.endswith(".app"), name


@pytest.mark.parametrize(
    "network", ["services.decoder.network", "services.decoder.unet", "services.prior.network"]
)
def test_networks_know_nothing_of_ray_or_grpc(network: str) -> None:
    assert not {name.split(".")[0] for name in imported(modules()[network])} & {
        "ray",
        "grpc",
        "google",
        "unclip",
    }


def loaded(imports: str, *names: str) -> list[str]:
    """Which of these top modules an import brings in."""
    code = f"import {imports}, sys; print(*sorted({set(names)!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_the_gateway_loads_no_torch_and_no_ray() -> None:
    assert loaded("gateway.server, gateway.cli.commands", "torch", "ray", "open_clip") == []


def test_building_an_application_loads_no_torch() -> None:
    apps = (f"services.{stage}.app" for stage in ("text_encoder", "image_encoder", "prior", "decoder"))
    assert loaded(", ".join(apps), "torch") == []


def test_stages_load_nothing_of_training_or_of_compilers() -> None:
    """Nor when they are made: `tests.fakes.served` has one of each."""
    heavy = ("open_clip", "torchvision", "transformers", "diffusers", "matplotlib", "torch._dynamo", "sympy")
    assert loaded("tests.fakes.served", *heavy) == []


def test_no_room_is_named_for_nothing() -> None:
    names = {part for name in modules() for part in name.split(".")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_files_are_below_300_lines() -> None:
    files = [*modules().values(), *(ROOT / "tests").rglob("*.py")]
    long = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert not {name: lines for name, lines in long.items() if lines >= 300}
