"""The files that start clusters, checked offline: by the autoscaler's own validation, KubeRay's by a schema here."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from rem_study.cli import main
from rem_study.spec.study import ResourcesSpec

CHECKOUT = Path(__file__).resolve().parents[1]
CLUSTER_FILES = ("cluster.yaml", "cluster-onprem.yaml")
RAY_IMAGE = re.compile(r"rayproject/ray:(\d+\.\d+\.\d+)-py3\d+-gpu")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHECKOUT / name).read_text())


@pytest.fixture(params=CLUSTER_FILES)
def cluster(request) -> dict[str, Any]:
    return read(request.param)


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as `ray up` has it after filling in the provider's defaults; raises when it is not valid."""
    complete = prepare_config(copy.deepcopy(config))
    validate_config(complete)
    return complete


def test_the_autoscaler_accepts_it(cluster):
    assert prepared(cluster)["cluster_name"] == cluster["cluster_name"]


@pytest.mark.parametrize("where", [(), ("docker",)])
def test_an_unknown_key_is_rejected(cluster, where):
    section = cluster
    for key in where:
        section = section[key]
    section["not_a_key"] = 1
    with pytest.raises(jsonschema.ValidationError, match="not_a_key"):
        prepared(cluster)


def test_on_aws_the_head_has_no_trial_slots_and_the_workers_scale_from_zero():
    complete = prepared(read("cluster.yaml"))
    nodes = complete["available_node_types"]
    head = nodes.pop(complete["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    for worker in nodes.values():
        assert worker["min_workers"] == 0 < worker["max_workers"] <= complete["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_on_premises_the_head_has_no_trial_slots_and_every_worker_is_used():
    complete = prepared(read("cluster-onprem.yaml"))
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(head_start(complete).split())
    workers = complete["provider"]["worker_ips"]
    assert complete["max_workers"] == len(workers) == len(set(workers))
    (node,) = complete["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == len(workers)
    assert complete["provider"]["head_ip"] not in workers


def test_no_node_installs_an_unpinned_or_nightly_ray(cluster):
    complete = prepared(cluster)
    image = RAY_IMAGE.fullmatch(complete["docker"]["image"])
    assert image
    for kind in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for command in complete[kind]:
            assert "ray-wheels" not in command and "dev0" not in command
    assert any(f"ray[default,tune]=={image[1]}" in command for command in complete["setup_commands"])


def test_the_dashboard_listens_on_loopback_only(cluster):
    start = head_start(prepared(cluster))
    assert "--dashboard-host=127.0.0.1" in start and "0.0.0.0" not in start


def head_start(complete: dict[str, Any]) -> str:
    (start,) = (line for line in complete["head_start_ray_commands"] if "--head" in line)
    return start


def test_the_head_of_a_cluster_gets_its_tunnel_told():
    for name in CLUSTER_FILES:
        comment = (CHECKOUT / name).read_text().split("\ncluster_name")[0]
        assert "ssh -L 8265:localhost:8265" in comment


# KubeRay's own schema comes with its operator (25,000 lines). Of it, what rayjob.yaml uses, in the words of its types
# (ray-operator/apis/ray/v1: RayJobSpec, RayClusterSpec, HeadGroupSpec, WorkerGroupSpec; core/v1: PodSpec, Container).


def closed(required: str, more: str = "", /, **types: Any) -> dict[str, Any]:
    """A mapping with these keys and no others; a key is a string unless `types` has it."""
    keys = [*required.split(), *more.split()]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {key: types.get(key, {"type": "string", "minLength": 1}) for key in keys},
        "additionalProperties": False,
    }


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


COUNT = {"type": "integer", "minimum": 0}
SWITCH = {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}  # a number unquoted is refused by Kubernetes
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}}
CONTAINER = closed(
    "name image resources volumeMounts",
    "envFrom",
    resources=closed("requests limits", requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=listed(closed("name mountPath", "readOnly", readOnly=SWITCH)),
    envFrom=listed(closed("secretRef", secretRef=closed("name", "optional", optional=SWITCH))),
)
TEMPLATE = closed(
    "spec",
    spec=closed(
        "containers volumes",
        "securityContext tolerations",
        securityContext=closed("fsGroup", fsGroup=COUNT),
        containers=listed(CONTAINER),
        volumes=listed(
            closed(
                "name",
                "persistentVolumeClaim configMap",
                persistentVolumeClaim=closed("claimName"),
                configMap=closed("name"),
            )
        ),
        tolerations=listed(
            closed(
                "key operator effect",
                "value",
                operator={"enum": ["Exists", "Equal"]},
                effect={"enum": ["NoSchedule"]},
            )
        ),
    ),
)
RAY_JOB = closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed("name"),
    spec=closed(
        "entrypoint rayClusterSpec",
        "submissionMode backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished",
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=SWITCH,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=closed(
            "rayVersion headGroupSpec workerGroupSpecs",
            "enableInTreeAutoscaling autoscalerOptions authOptions",
            authOptions=closed("mode", mode={"enum": ["token", "disabled"]}),
            enableInTreeAutoscaling=SWITCH,
            autoscalerOptions=closed(
                "upscalingMode idleTimeoutSeconds",
                upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
                idleTimeoutSeconds=COUNT,
            ),
            headGroupSpec=closed(
                "rayStartParams template",
                "serviceType",
                serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                rayStartParams=TEXTS,
                template=TEMPLATE,
            ),
            workerGroupSpecs=listed(
                closed(
                    "groupName minReplicas maxReplicas rayStartParams template",
                    "replicas",
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=TEMPLATE,
                )
            ),
        ),
    ),
)


@pytest.fixture
def documents() -> dict[str, Any]:
    """rayjob.yaml's documents by kind."""
    text = (CHECKOUT / "rayjob.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture
def ray_job(documents) -> dict[str, Any]:
    return documents["RayJob"]


def options(ray_job: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The entry point's words, and its parameters as the command line reads them."""
    program, command, *words = ray_job["spec"]["entrypoint"].split()
    assert (program, command) == ("rem-study", "launch")
    with main.commands[command].make_context(command, list(words)) as context:
        return words, context.params


def test_the_ray_job_has_only_fields_that_kuberay_knows(ray_job):
    jsonschema.validate(ray_job, RAY_JOB)
    ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(ray_job, RAY_JOB)


def test_one_version_of_ray_everywhere(ray_job):
    version = ray_job["spec"]["rayClusterSpec"]["rayVersion"]
    versions = {RAY_IMAGE.fullmatch(read(name)["docker"]["image"])[1] for name in CLUSTER_FILES}
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    versions |= set(RAY_IMAGE.findall(dockerfile)) | set(re.findall(r"ray\[default,tune\]==([\d.]+)", dockerfile))
    for group in groups(ray_job):
        (container,) = group["template"]["spec"]["containers"]
        name, _, tag = container["image"].partition(":")
        assert name == "REGISTRY/rem-study"
        versions.add(tag.partition("-ray")[2])
    assert versions == {version}
    pin = re.search(r'"(ray\[tune\][^"]*)"', (CHECKOUT / "pyproject.toml").read_text())
    assert version in Requirement(pin[1]).specifier


def test_the_entry_point_is_a_launch_on_the_job_s_own_cluster_and_shared_volume(ray_job):
    _, parameters = options(ray_job)
    assert parameters["address"] == "auto"
    for group in groups(ray_job):
        pod = group["template"]["spec"]
        claims = {
            v["name"] for v in pod["volumes"] if v.get("persistentVolumeClaim", {}).get("claimName") == "rem-study"
        }
        mounts = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] in claims}
        assert any(parameters["root"].is_relative_to(mount) for mount in mounts)
    head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {m["name"]: m["mountPath"] for m in head["containers"][0]["volumeMounts"]}
    assert parameters["study"].is_relative_to(mounts["study"])


def test_the_head_has_no_trial_slots_and_spot_workers_scale_from_zero(ray_job):
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0 < workers["maxReplicas"]
    tolerated = {t["key"] for t in workers["template"]["spec"]["tolerations"]}
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= tolerated


def test_a_trial_fits_a_worker_and_all_workers_can_be_busy(ray_job):
    _, parameters = options(ray_job)
    told = dict(entry.removeprefix("resources.").split("=") for entry in parameters["overrides"])
    trial = ResourcesSpec.model_validate({name: yaml.safe_load(value) for name, value in told.items()})
    (workers,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in groups(ray_job):
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
    limits = resources["limits"]
    each = min(int(limits["cpu"]) // trial.cpus, int(int(limits["nvidia.com/gpu"]) / trial.gpus))
    assert each >= 1 and trial.concurrent == workers["maxReplicas"] * each


def test_nothing_is_exposed_beyond_the_kubernetes_cluster(documents):
    assert documents["RayJob"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert set(documents) == {"RayJob", "PersistentVolumeClaim", "NetworkPolicy"}  # no Service, no Ingress
    assert documents["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    assert policy["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert documents["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def groups(ray_job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = ray_job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
