"""What every stage says of the bundle it serves."""

from __future__ import annotations

from services.bundles.bundle import Manifest
from unclip.internal.v1 import stage_service_pb2


def describe(manifest: Manifest) -> stage_service_pb2.DescribeResponse:
    """The model's name, version and licences. A stage adds what it can do."""
    return stage_service_pb2.DescribeResponse(
        model_name=manifest.name,
        model_version=manifest.version,
        licences=[stage_service_pb2.LicenceNotice(**licence.model_dump()) for licence in manifest.licences],
    )
