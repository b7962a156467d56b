"""The client's own wheel: what it holds, and what it needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from services.bundles.bundle import ROOT


def test_the_wheel_holds_the_client_and_the_contract_and_needs_little(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "clients/python", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {"unclip_client/client.py", "unclip/v1/image_service_pb2.py"} <= names
    assert {name.split("/")[0] for name in names} == {
        "unclip",
        "unclip_client",
        "unclip_client-0.1.0.dist-info",
    }
    lines = [line.split(" ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    needed = {name: version or "0" for name, _, version in (line.partition(">=") for line in lines)}
    assert list(needed) == ["googleapis-common-protos", "grpcio", "pillow", "protobuf"]
    stubs = (ROOT / "protos/unclip/v1/image_service_pb2_grpc.py").read_text()
    assert f"GRPC_GENERATED_VERSION = '{needed['grpcio']}'" in stubs, "which older ones refuse to load"
    generated = (ROOT / "protos/unclip/v1/image_service_pb2.py").read_text()
    assert f"# Protobuf Python Version: {needed['protobuf']}" in generated
