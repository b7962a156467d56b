"""The Images API in the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from tests.deploy.conftest import Helm, of_kind


def test_the_images_api_is_exposed_beside_grpc(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "gateway: {ingress: {enabled: true, host: images.example.com, className: nginx, tlsSecret: tls},"
        " http: {url: 'https://images.example.com', pictureStore: 's3://pictures'}}"
    )
    objects = helm.objects("values.yaml", "-f", str(values))
    (ingress,) = of_kind(objects, "Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    service = next(s for s in of_kind(objects, "Service") if s["metadata"]["name"] == backend["name"])
    assert {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}["http"] == "http"
    (deployment,) = of_kind(objects, "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    port = next(p["containerPort"] for p in container["ports"] if p["name"] == "http")
    assert settings["UNCLIP_HTTP_PORT"] == str(port)
    assert settings["UNCLIP_PICTURE_STORE"] == "s3://pictures"
    policy = next(p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "unclip-gateway")
    assert {"protocol": "TCP", "port": "http"} in policy["spec"]["ingress"][0]["ports"]


def gateway_pod(helm: Helm, folder: Path, given: str) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The gateway's pod with these values; its settings, and where its volumes are mounted."""
    values = folder / "values.yaml"
    values.write_text(f"gateway: {{{given}}}")
    (deployment,) = of_kind(helm.objects("values.yaml", "-f", str(values)), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    return pod, settings, {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_key_that_signs_pictures_comes_from_a_secret(helm: Helm, tmp_path: Path) -> None:
    pod, settings, mounted = gateway_pod(helm, tmp_path, "provenance: {secret: signing}")
    assert settings["UNCLIP_PROVENANCE_KEY"].startswith(mounted["provenance"])
    assert {"name": "provenance", "secret": {"secretName": "signing", "defaultMode": 0o440}} in pod["volumes"]


def test_tokens_come_from_a_secret(helm: Helm, tmp_path: Path) -> None:
    pod, settings, mounted = gateway_pod(helm, tmp_path, "tokens: {secret: tokens}")
    assert settings["UNCLIP_TOKENS"] == f"{mounted['tokens']}/tokens.json"
    assert {"name": "tokens", "secret": {"secretName": "tokens", "defaultMode": 0o440}} in pod["volumes"]


def test_certificates_come_from_a_secret_and_probes_stay_in_the_clear(helm: Helm, tmp_path: Path) -> None:
    tls = "tls: {secret: certificate, clientCertificates: true}, insecure: false"
    pod, settings, mounted = gateway_pod(helm, tmp_path, tls)
    folder = mounted["tls"]
    files = {name: settings[f"UNCLIP_TLS_{name}"] for name in ("CERTIFICATE", "KEY", "CLIENT_CA")}
    assert files == {
        "CERTIFICATE": f"{folder}/tls.crt",
        "KEY": f"{folder}/tls.key",
        "CLIENT_CA": f"{folder}/ca.crt",
    }
    assert {"name": "tls", "secret": {"secretName": "certificate", "defaultMode": 0o440}} in pod["volumes"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod["containers"][0][probe]["httpGet"]["port"] == "metrics"


def test_a_gateway_that_anybody_may_call_says_so(helm: Helm, tmp_path: Path) -> None:
    _, settings, _ = gateway_pod(helm, tmp_path, "insecure: false")
    with pytest.raises(ValidationError, match="UNCLIP_INSECURE"):
        Settings(host=settings["UNCLIP_HOST"], insecure=settings["UNCLIP_INSECURE"] == "true")
