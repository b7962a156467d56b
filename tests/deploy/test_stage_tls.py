"""TLS between gateway and stages: the chart's HAProxy, run as it is rendered, in front of stages."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import pytest

from deploy.local.ports import free_port
from services.wire.stages import STAGES
from tests.certificates import Authority
from tests.deploy.conftest import CHART, Helm, of_kind
from tests.deploy.test_chart import KUBERNETES
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from tests.gateway.conftest import FOX, fronting, refusal, until

SECURED = "stageTls: {secret: stage-certificates, clientSecret: gateway-certificate}"
needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not here")


def rendered(
    helm: Helm, folder: Path, text: str = SECURED, values: str = "values.yaml"
) -> list[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(text)
    return helm.objects(values, "-f", str(file))


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of all stages, heads and workers."""
    for service in of_kind(objects, "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            yield group["template"]["spec"]


@pytest.mark.parametrize("values", ["values.yaml", "values-production.yaml"])
def test_every_pod_of_a_stage_has_a_proxy_with_the_certificate(
    helm: Helm, tmp_path: Path, values: str
) -> None:
    for pod in pods(rendered(helm, tmp_path, values=values)):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod},
            KUBERNETES,
            strict=True,
        )
        proxy = pod["initContainers"][0]
        assert proxy["restartPolicy"] == "Always"  # beside the others, and after them
        assert proxy["securityContext"]["readOnlyRootFilesystem"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in proxy["volumeMounts"]}
        assert mounts["/tls"]["secret"]["secretName"] == "stage-certificates"
        assert mounts["/stage-tls"]["configMap"]["name"] == "unclip-stage-tls"


def test_gateways_call_only_the_proxies(helm: Helm, tmp_path: Path) -> None:
    objects = rendered(helm, tmp_path)
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    settings = {v["name"]: v["value"] for v in pod["containers"][0]["env"]}
    for stage in STAGES:
        assert settings[f"UNCLIP_{stage.upper()}_ADDRESS"].endswith("-serve:9443")
    assert settings["UNCLIP_STAGE_TLS_KEY"] == "/stage-tls/tls.key"
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(objects, "NetworkPolicy")}
    assert policies["unclip-gateway"]["egress"][0]["ports"] == [{"protocol": "TCP", "port": 9443}]
    assert policies["unclip-decoder"]["ingress"][1]["ports"] == [{"protocol": "TCP", "port": 9443}]


def test_a_gateway_without_a_certificate_of_its_own_gets_no_key(helm: Helm, tmp_path: Path) -> None:
    objects = rendered(helm, tmp_path, "stageTls: {secret: stage-certificates}")
    (deployment,) = of_kind(objects, "Deployment")
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["stage-tls"]["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    (config,) = [c for c in of_kind(objects, "ConfigMap") if c["metadata"]["name"] == "unclip-stage-tls"]
    assert "verify required" not in config["data"]["haproxy.cfg"]


def test_mutual_tls_without_network_policies_is_refused(helm: Helm) -> None:
    """Serve's own port would be open beside it."""
    chosen = ["stageTls.secret=a", "stageTls.clientSecret=b", "networkPolicies.enabled=false"]
    sets = [part for value in chosen for part in ("--set", value)]
    result = helm.run("template", "unclip", str(CHART), *sets)
    assert result.returncode != 0
    assert "networkPolicies.enabled" in result.stderr


def test_a_gateways_certificate_alone_is_refused(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("stageTls: {clientSecret: gateway-certificate}")
    result = helm.run("template", "unclip", "deploy/chart", "-f", str(values))
    assert result.returncode != 0
    assert "stageTls" in result.stderr


@dataclass
class Proxy:
    """The proxy as a pod runs it; certificates in its folder may be replaced."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def give(self, authority: Authority, name: str) -> None:
        """As the kubelet does when the secret changes."""
        certificate, key = authority.issue(name)
        shutil.copy(key, self.folder / "tls.key")
        shutil.copy(authority.ca, self.folder / "ca.crt")
        shutil.copy(certificate, self.folder / "tls.crt")


@contextlib.asynccontextmanager
async def proxying(helm: Helm, folder: Path, authority: Authority, stage: str) -> AsyncIterator[Proxy]:
    """What the chart renders, on loopback and free ports."""
    configs = of_kind(rendered(helm, folder), "ConfigMap")
    data = next(c["data"] for c in configs if c["metadata"]["name"] == "unclip-stage-tls")
    port = free_port()
    moved = {"/tls/": f"{folder}/tls/", "/stage-tls/": f"{folder}/stage-tls/", "127.0.0.1:9000": stage}
    moved |= {"bind :::9443 v4v6": f"bind 127.0.0.1:{port}"}
    for name, text in data.items():
        for old, new in moved.items():
            text = text.replace(old, new)
        file = folder / "stage-tls" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (folder / "tls").mkdir()
    environment = {**os.environ, "LOOK_SECONDS": "0.2"}
    proxy = Proxy(port, folder / "tls", None)  # type: ignore[arg-type]
    proxy.give(authority, "first")
    command = ["sh", str(folder / "stage-tls/run.sh")]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        proxy.process = process
        try:
            await until(lambda: _listens(port), 10)
            yield proxy
            process.send_signal(signal.SIGTERM)
            await until(lambda: _ended(process), 20)
            assert process.returncode == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    gc.collect()  # gRPC closes connections when calls and channels are collected, one after the other
    return process.poll() is not None


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def securely(authority: Authority, port: int, name: str = "gateway") -> dict[str, Any]:
    """The gateway's settings for stages behind the proxy."""
    certificate, key = authority.issue(name)
    files = {"stage_tls_ca": authority.ca, "stage_tls_certificate": certificate, "stage_tls_key": key}
    return addresses_of(f"127.0.0.1:{port}") | {name: str(file) for name, file in files.items()}


@needs_haproxy
async def test_calls_reach_the_stages_through_it_and_a_new_certificate_loses_none(
    helm: Helm, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    stages = FakeStages()
    async with (
        serve_fake_stages(stages) as address,
        proxying(helm, tmp_path, authority, address) as proxy,
        fronting(stages, **securely(authority, proxy.port)) as front,
    ):
        assert (await front.images.Generate(FOX)).pictures
        stages.delay = 3.0
        held = asyncio.ensure_future(front.images.Generate(FOX))
        await until(lambda: len(stages.tasks) > 1)
        before = serial(proxy.port, authority)
        proxy.give(authority, "second")
        deadline = time.monotonic() + 15
        while serial(proxy.port, authority) == before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert (await held).pictures
        stages.delay = 0
        assert (await front.images.Generate(FOX)).pictures


@needs_haproxy
async def test_strangers_do_not_get_through(helm: Helm, tmp_path: Path) -> None:
    authority, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    stages = FakeStages()
    async with (
        serve_fake_stages(stages) as address,
        proxying(helm, tmp_path, authority, address) as proxy,
    ):
        strangers = securely(others, proxy.port) | {"stage_tls_ca": str(authority.ca)}
        for settings in (strangers, addresses_of(f"127.0.0.1:{proxy.port}")):
            async with fronting(stages, **settings) as front:
                error = await refusal(front.images.Generate(FOX, timeout=3))
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert not stages.tasks


def serial(port: int, authority: Authority) -> bytes:
    """Which certificate it shows."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.check_hostname = False
    context.load_cert_chain(*authority.issue("looker"))
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""
