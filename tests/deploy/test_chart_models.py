"""The chart with several models: each has stages of its own, and the gateway knows where they are."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate

from gateway.settings import Settings
from tests.deploy.conftest import Helm, of_kind
from tests.deploy.test_chart import KUBERNETES, STAGES, serve_configs

TWO = """
models:
  kandinsky-2.2:
    bundle: {source: claim, path: /kandinsky, claim: {name: kandinsky}}
    stages: {decoder: {replicas: {min: 0}}}
    shared: [text_encoder]
"""


def test_models_stand_side_by_side(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(TWO)
    objects = helm.objects("values.yaml", "-f", str(values))
    configs = serve_configs(objects)
    own = {f"kandinsky-2.2-{stage}" for stage in STAGES if stage != "text_encoder"}
    assert set(configs) == {*STAGES, *own}
    args = configs["kandinsky-2.2-decoder"]["applications"][0]["args"]
    assert (args["bundle"], args["size"]) == ("/kandinsky", 0)
    assert configs["decoder"]["applications"][0]["args"]["size"] == 256
    container = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    environment = {e["name"]: e["value"] for e in container["env"]}
    given = {"models": environment["UNCLIP_MODELS"], "sleeping_stages": environment["UNCLIP_SLEEPING_STAGES"]}
    settings = Settings.model_validate({**given, "models": json.loads(given["models"])})
    assert list(settings.models) == ["unclip-emoji", "kandinsky-2.2"]
    name = "kandinsky-2.2-decoder"
    assert settings.target("kandinsky-2.2", "decoder") == (name, "unclip-kandinsky-2-2-decoder-serve:9000")
    assert settings.target("kandinsky-2.2", "text_encoder")[0] == "text_encoder"
    assert settings.sleeping("kandinsky-2.2") == ("decoder",)
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(objects, "NetworkPolicy")}
    reached = policies["unclip-gateway"]["egress"][0]["to"]
    labels = {to["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for to in reached}
    assert labels == {*STAGES, *own}
    for item in objects:
        if "." not in item["apiVersion"].split("/")[0] or item["apiVersion"].split("/")[0].endswith("k8s.io"):
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
