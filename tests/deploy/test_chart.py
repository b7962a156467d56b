"""The chart renders, for every values set, to objects that Kubernetes, KubeRay and Ray Serve would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from services.bundles.bundle import ROOT
from tests.deploy.conftest import CHART, VALUES, Helm, of_kind

KUBERAY = ROOT.parent / "shared/kuberay/rayservice.v1.schema.json"
KUBERNETES = "1.34"
STAGES = ("text_encoder", "image_encoder", "prior", "decoder")


def serve_configs(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By application."""
    configs = [yaml.safe_load(service["spec"]["serveConfigV2"]) for service in of_kind(objects, "RayService")]
    return {config["applications"][0]["name"]: config for config in configs}


def strict(schema: Any) -> Any:
    """The schema with unknown properties forbidden wherever properties are listed."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    narrowed = {key: strict(value) for key, value in schema.items()}
    if isinstance(narrowed.get("properties"), dict) and not narrowed.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        narrowed.setdefault("additionalProperties", False)
    return narrowed


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong(helm: Helm, values: str) -> None:
    result = helm.run("lint", "--strict", str(CHART), "-f", str(CHART / values))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_strictly_valid(helm: Helm, values: str) -> None:
    objects = helm.objects(values)
    assert len(of_kind(objects, "RayService")) == len(STAGES)
    for item in objects:
        if "." not in item["apiVersion"].split("/")[0] or item["apiVersion"].split("/")[0].endswith("k8s.io"):
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_the_queue_that_fills_is_the_engines(helm: Helm, values: str) -> None:
    """Ray lets in as many calls as the engine takes rows, and a few that ask how it is."""
    for name, config in serve_configs(helm.objects(values)).items():
        application = config["applications"][0]
        deployment = application["deployments"][0]
        if name in ("prior", "decoder"):
            engine = application["args"]["engine"]
            limit = engine["max_running"] + engine["max_waiting"] + 8
            assert deployment["max_ongoing_requests"] == deployment["max_queued_requests"] == limit
        assert deployment["health_check_period_s"] * 3 + deployment["health_check_timeout_s"] <= 30


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_the_local_stacks_queue_is_the_engines_too(stage: str) -> None:
    config = yaml.safe_load((ROOT / f"deploy/serve/{stage}.yaml").read_text())["applications"][0]
    engine = config["args"]["engine"]
    limit = engine["max_running"] + engine["max_waiting"] + 8
    assert config["deployments"][0]["max_ongoing_requests"] == limit


@pytest.mark.skipif(not KUBERAY.exists(), reason=f"{KUBERAY.name}, KubeRay's own schema, is not here")
@pytest.mark.parametrize("values", VALUES)
def test_ray_services_fit_kuberays_schema(helm: Helm, values: str) -> None:
    schema = json.loads(KUBERAY.read_text())
    # The top level is Kubernetes' own.
    spec = Draft202012Validator(strict(schema["properties"]["spec"]))
    for service in of_kind(helm.objects(values), "RayService"):
        errors = [
            f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in spec.iter_errors(service["spec"])
        ]
        assert not errors, errors


@pytest.mark.parametrize("values", VALUES)
def test_pods_of_ray_clusters_are_strictly_valid(helm: Helm, values: str) -> None:
    for service in of_kind(helm.objects(values), "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "pod"},
                "spec": group["template"]["spec"],
            }
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own models
@pytest.mark.parametrize("values", VALUES)
def test_ray_serve_takes_the_configs(helm: Helm, values: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    configs = serve_configs(helm.objects(values))
    assert set(configs) == set(STAGES)
    for config in configs.values():
        ServeDeploySchema.model_validate(config)


def test_the_serve_configs_are_the_very_files_of_make_serve(helm: Helm) -> None:
    for stage, config in serve_configs(helm.objects("values.yaml")).items():
        file = yaml.safe_load((ROOT / f"deploy/serve/{stage}.yaml").read_text())
        assert config.pop("logging_config")["encoding"] == "JSON"
        for either in (config, file):
            del either["http_options"]
            deployment = either["applications"][0]["deployments"][0]
            for changed in ("min_replicas", "max_replicas"):
                del deployment["autoscaling_config"][changed]
            del deployment["ray_actor_options"]
        assert config == file


def pods(objects: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    found = [(d["metadata"]["name"], d["spec"]["template"]["spec"]) for d in of_kind(objects, "Deployment")]
    for service in of_kind(objects, "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            found.append((service["metadata"]["name"], group["template"]["spec"]))
    return found


@pytest.mark.parametrize("values", VALUES)
def test_pods_keep_to_the_restricted_standard(helm: Helm, values: str) -> None:
    for name, pod in pods(helm.objects(values)):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
        # Ray's autoscaler alone speaks to Kubernetes.
        assert pod["automountServiceAccountToken"] is (pod["containers"][0]["name"] == "ray-head"), name


def test_workers_outlive_the_longest_request(helm: Helm) -> None:
    objects = helm.objects("values.yaml")
    gateway = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    environment = {e["name"]: e["value"] for e in gateway["containers"][0]["env"]}
    longest = int(environment["UNCLIP_REQUEST_TIMEOUT"])
    assert gateway["terminationGracePeriodSeconds"] > longest
    for service in of_kind(objects, "RayService"):
        worker = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
        assert worker["terminationGracePeriodSeconds"] > longest
        assert service["spec"]["rayClusterDeletionDelaySeconds"] > longest
    for config in serve_configs(objects).values():
        deployment = config["applications"][0]["deployments"][0]
        if config["applications"][0]["name"] in ("prior", "decoder"):
            assert deployment["graceful_shutdown_timeout_s"] > longest


def test_a_stage_may_live_on_another_cluster(helm: Helm) -> None:
    objects = helm.objects("values.yaml", "--set", "stages.prior.address=prior.elsewhere:9000")
    assert set(serve_configs(objects)) == {"text_encoder", "image_encoder", "decoder"}
    container = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    environment = {e["name"]: e["value"] for e in container["env"]}
    assert environment["UNCLIP_PRIOR_ADDRESS"] == "prior.elsewhere:9000"
    assert environment["UNCLIP_DECODER_ADDRESS"] == "unclip-decoder-serve:9000"
    policy = next(p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "unclip-gateway")
    assert {"ports": [{"protocol": "TCP", "port": 9000}]} in policy["spec"]["egress"]


def test_a_stage_that_may_sleep_is_reached_through_its_head(helm: Helm) -> None:
    objects = helm.objects(
        "values.yaml",
        "--set",
        "stages.prior.replicas.min=0",
        "--set",
        "gateway.environment.UNCLIP_LOG_FORMAT=text",
    )
    for service in of_kind(objects, "RayService"):
        assert service["spec"]["excludeHeadPodFromServeSvc"] is (
            service["metadata"]["name"] != "unclip-prior"
        )
        head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        assert {"name": "serve-grpc", "containerPort": 9000} in head["ports"]
    entries = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    environment = {e["name"]: e["value"] for e in entries}
    assert len(environment) == len(entries)
    assert (environment["UNCLIP_SLEEPING_STAGES"], environment["UNCLIP_LOG_FORMAT"]) == (
        "unclip-emoji/prior",
        "text",
    )


def test_numbers_of_a_values_file_reach_the_gateway_as_they_are_written(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    numbers = "{UNCLIP_MAX_PICTURE_BYTES: 33554432, UNCLIP_MAX_GUIDANCE: 7.5}"
    values.write_text(f"gateway: {{environment: {numbers}}}")
    container = of_kind(helm.objects("values.yaml", "-f", str(values)), "Deployment")[0]
    entries = container["spec"]["template"]["spec"]["containers"][0]["env"]
    environment = {e["name"]: e["value"] for e in entries}
    assert environment["UNCLIP_MAX_PICTURE_BYTES"] == "33554432"
    assert environment["UNCLIP_MAX_GUIDANCE"] == "7.5"


def test_spans_may_leave_only_for_the_receiver(helm: Helm) -> None:
    def names(objects: list[dict[str, Any]]) -> set[str]:
        return {p["metadata"]["name"] for p in of_kind(objects, "NetworkPolicy")}

    assert "unclip-tracing" not in names(helm.objects("values.yaml"))
    endpoint = "http://collector.monitoring:4317"
    sampler = "tracing.environment.OTEL_TRACES_SAMPLER=parentbased_always_on"
    objects = helm.objects("values.yaml", "--set", f"tracing.endpoint={endpoint}", "--set", sampler)
    policy = next(
        p["spec"] for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "unclip-tracing"
    )
    assert policy["egress"][0]["ports"] == [{"protocol": "TCP", "port": 4317}]
    for name, pod in pods(objects):
        environment = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint, name
        assert environment["OTEL_TRACES_SAMPLER"] == "parentbased_always_on", name


def test_an_object_store_fills_and_verifies_the_bundle(helm: Helm) -> None:
    store = [
        "bundle.source=objectStore",
        "bundle.objectStore.image=copier:1",
        "bundle.objectStore.command={copy,$(BUNDLE_PATH)}",
    ]
    for service in of_kind(
        helm.objects("values.yaml", *[x for s in store for x in ("--set", s)]), "RayService"
    ):
        pod = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod},
            KUBERNETES,
            strict=True,
        )
        assert [c["name"] for c in pod["initContainers"]] == ["fetch-bundle", "verify-bundle"]
        assert pod["initContainers"][1]["command"][-1] == "/models"
        args = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
        assert args.get("bundle", args.get("clip", {}).get("bundle")) == "/models"


@pytest.mark.parametrize(
    ("misspelt", "says"),
    [
        ("gatway.replicas=2", "gatway"),
        ("stages.prior.replica.min=2", "replica"),
        ("stages.priors.enabled=true", "priors"),
        ("stages.decoder.args.call_sise=2", "call_sise"),
        ("gateway.environment.PORT=1", "PORT"),
        ("bundle.source=s3", "bundle"),
        ("models.second.stages.decoder.replica.min=2", "replica"),
        ("models.dall e.shared=null", "models"),
        ("tracing.endpoint=http://collector", "endpoint"),
        (
            "tracing.environment.OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ],
)
def test_a_misspelt_value_fails(helm: Helm, misspelt: str, says: str) -> None:
    result = helm.run("template", "unclip", str(CHART), "--set", misspelt)
    assert result.returncode != 0
    assert says in result.stderr


def test_policies_deny_by_default(helm: Helm) -> None:
    policies = {
        p["metadata"]["name"]: p["spec"] for p in of_kind(helm.objects("values.yaml"), "NetworkPolicy")
    }
    assert policies["unclip-deny"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(policies["unclip-deny"])
    for stage in STAGES:
        callers = policies[f"unclip-{stage.replace('_', '-')}"]["ingress"]
        at_grpc = [rule for rule in callers if {"protocol": "TCP", "port": 9000} in rule.get("ports", [])]
        assert [
            r["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for r in at_grpc
        ] == ["gateway"]
