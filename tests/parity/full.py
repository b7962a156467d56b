"""Each published network at its real size, one at a time, against the reference: ``make parity-full``.

The reference is built with random weights and saved in its own layout; a second process imports that, a third
loads it, and compares one call's output. Memory is each process's own peak, without what it had before.
"""

from __future__ import annotations

import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file, save_file

from services.bundles import weights
from services.bundles.bundle import ROOT

TABLE = ROOT / "docs/parity.md"
TOLERANCE = 1e-3
MIB = 2**20
COLUMNS = ("network", "parameters", "largest difference", "files, MiB", "import's peak, MiB", "load's peak")


@torch.inference_mode()
def reference(name: str, folder: Path) -> dict[str, Any]:
    """Build, save and call the reference."""
    from tests.parity.published_towers import CASES

    case = CASES[name]
    torch.manual_seed(0)
    network = case.build().eval()
    for parameter in network.parameters():  # a fresh network's ones and zeros would hide a swapped weight
        parameter.add_(0.01 * torch.randn_like(parameter))
    case.save(network, folder / "given")
    torch.manual_seed(1)
    save_file({"output": case.theirs(network, case.inputs()).contiguous()}, folder / "theirs.safetensors")
    return {"parameters": sum(parameter.numel() for parameter in network.parameters())}


def importing(name: str, folder: Path) -> dict[str, Any]:
    """Import what the reference saved."""
    from tests.parity.published_towers import CASES

    before = peak()
    CASES[name].write(folder / "given", folder / "bundle")
    size = sum(file.stat().st_size for file in (folder / "given").rglob("*.safetensors"))
    return {"files": size / MIB, "peak": (peak() - before) / MIB}


@torch.inference_mode()
def comparing(name: str, folder: Path) -> dict[str, Any]:
    """Load what was imported, call it, and compare."""
    from tests.parity.published_towers import CASES

    weights.best_dtype = lambda device: torch.float32
    case = CASES[name]
    before = peak()
    network = case.load(folder / "bundle")
    loaded = peak() - before
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    torch.manual_seed(1)
    ours = case.ours(network, case.inputs())
    theirs = load_file(folder / "theirs.safetensors")["output"]
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-3
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    return {"difference": difference, "ratio": loaded / size}


PHASES = {"reference": reference, "importing": importing, "comparing": comparing}


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(phase: str, name: str, folder: Path) -> dict[str, Any]:
    """A phase in a process of its own."""
    command = [sys.executable, "-m", "tests.parity.full", "--phase", phase, "--folder", str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise click.ClickException(f"{name}, {phase}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(name: str) -> tuple[str, ...]:
    """A row of the table."""
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    try:
        known = run("reference", name, folder)
        imported = run("importing", name, folder)
        compared = run("comparing", name, folder)
    finally:
        shutil.rmtree(folder)
    if not compared["difference"] <= TOLERANCE:
        raise click.ClickException(f"{name}: differs by {compared['difference']:.1e}, more than {TOLERANCE}")
    return (
        name,
        f"{known['parameters'] / 1e6:,.0f} million",
        f"{compared['difference']:.1e}",
        f"{imported['files']:,.0f}",
        f"{imported['peak']:,.0f}",
        f"{compared['ratio']:.2f}",
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """The page that is committed."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return f"""# The published networks at their real size

`make parity-full` wrote this page: every network with its published config and random weights, saved by
the reference in its own layout, imported, loaded, and called once, in float32. The difference is the largest
absolute one over the largest absolute output. A peak is the most memory that the process had, without what it
had before; that of loading is over the bytes of the weights. Python {platform.python_version()}, {packages},
on {platform.machine()}.

{chr(10).join(lines)}
"""


@click.command()
@click.option("--phase", type=click.Choice(list(PHASES)), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
@click.argument("names", nargs=-1)
def main(phase: str | None, folder: Path | None, names: tuple[str, ...]) -> None:
    """Compare NAMES, or all networks, and write docs/parity.md if it was all of them."""
    if phase is not None and folder is not None:
        click.echo(json.dumps(PHASES[phase](names[0], folder)))
        return
    from tests.parity.published_towers import CASES

    rows = []
    for name in names or CASES:
        rows.append(measured(name))
        click.echo("  ".join(rows[-1]))
    if not names:
        TABLE.write_text(table(rows))


if __name__ == "__main__":
    main()
