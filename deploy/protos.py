"""Generate the protobuf and gRPC stubs beside their .proto files: ``python -m deploy.protos [--check]``.

With --check it compares them with what would be generated.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
STUBS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Run protoc over every .proto file. Raises CalledProcessError; protoc's own words go to stderr."""
    sources = [str(p.relative_to(PROTOS)) for p in sorted(PROTOS.rglob("*.proto"))]
    # protoc finds the mypy plugin on PATH only.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{target}" for kind in ("mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *sources]
    subprocess.run(command, check=True, cwd=PROTOS, env={**os.environ, "PATH": path})


def stubs(folder: Path) -> set[Path]:
    """The paths of the generated files under a folder, relative to it."""
    return {file.relative_to(folder) for pattern in STUBS for file in folder.rglob(pattern)}


def stale() -> list[str]:
    """Stubs that are missing, left over, or not what the .proto files say now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        found = stubs(PROTOS)
        wanted = stubs(fresh)
        same = {f for f in found & wanted if filecmp.cmp(PROTOS / f, fresh / f, shallow=False)}
        return sorted(map(str, (found | wanted) - same))


def main() -> None:
    """Generate the stubs. With --check, exit with an error if they are not fresh."""
    if "--check" not in sys.argv[1:]:
        for file in stubs(PROTOS):
            (PROTOS / file).unlink()
        generate(PROTOS)
    elif old := stale():
        sys.exit(f"stubs are not fresh (run `make stubs`): {', '.join(old)}")


if __name__ == "__main__":
    main()
