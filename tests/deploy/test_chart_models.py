"""The chart with several models: each has stages of its own, and the gateway knows where they are."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate
import pytest

from gateway.settings import Settings
from tests.deploy.conftest import CHART, Helm, of_kind
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


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("{kandinsky-2.2: {}, kandinsky-2-2: {}}", "another model has that name"),
        ("{unclip-emoji: {}}", "another model has that name"),
        ("{dall-e-2: {}}", "another model has that name"),
        ("{a-name-that-is-longer-than-kuberay-takes: {}}", "more than 47 characters"),
        ("{second: {shared: [prior]}}", "shared"),
    ],
)
def test_models_that_would_not_come_up_are_refused(
    helm: Helm, tmp_path: Path, models: str, says: str
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"models: {models}")
    result = helm.run("template", "unclip", str(CHART), "-f", str(values))
    assert result.returncode != 0
    assert says in result.stderr


def test_a_size_is_the_models_own(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "stages: {decoder: {args: {size: 512}}}\n"
        "models: {second: {}, third: {stages: {decoder: {args: {size: 768}}}}}"
    )
    configs = serve_configs(helm.objects("values.yaml", "-f", str(values)))
    sizes = {name: c["applications"][0]["args"]["size"] for name, c in configs.items() if "decoder" in name}
    assert sizes == {"decoder": 512, "second-decoder": 0, "third-decoder": 768}
