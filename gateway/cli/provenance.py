"""What a picture's file says of where it comes from, and who signed that."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa

from gateway.provenance import SETTINGS_KEY, mime_of


@dataclass(frozen=True)
class Report:
    """What was found. valid: the file is as it was when it was signed. lines: for a person to read."""

    valid: bool
    lines: tuple[str, ...]


def read(file: Path) -> Report:
    """The file's manifest, checked."""
    data = file.read_bytes()
    try:
        told = json.loads(c2pa.Reader(mime_of(data), io.BytesIO(data)).json())
    except c2pa.C2paError.ManifestNotFound:
        return Report(False, ("says nothing of where it comes from",))
    except c2pa.C2paError as error:
        return Report(False, (f"cannot be read: {error}",))
    manifest = told["manifests"][told["active_manifest"]]
    signature = manifest.get("signature_info", {})
    problems = [status["code"] for status in told.get("validation_status", ())]
    broken = [code for code in problems if code != "signingCredential.untrusted"]
    actions = [a["data"]["actions"][-1] for a in manifest["assertions"] if "actions" in a["label"]]
    lines = [line for action in actions for line in _made(action)]
    lines += [f"from: {i.get('title')} ({i.get('relationship')})" for i in manifest.get("ingredients", ())]
    lines.append(f"signed by: {signature.get('issuer', 'unknown')}, {signature.get('time', 'no time')}")
    if broken:
        lines.append(f"changed since, or not signed properly: {', '.join(broken)}")
    elif problems:
        lines.append("unchanged since; the signer is not one that this machine knows")
    else:
        lines.append("unchanged since")
    return Report(not broken, tuple(lines))


def _made(action: Mapping[str, Any]) -> list[str]:
    source = str(action.get("digitalSourceType", "")).rpartition("/")[2]
    agent = action.get("softwareAgent")
    name = f"{agent.get('name')} {agent.get('version')}" if isinstance(agent, dict) else str(agent)
    what = {"trainedAlgorithmicMedia": "made by AI", "compositeWithTrainedAlgorithmicMedia": "edited by AI"}
    lines = [f"{what.get(source, source)}: {name}"]
    if settings := action.get("parameters", {}).get(SETTINGS_KEY):
        lines.append("settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    return lines
