"""cluster.yaml is one that Ray's autoscaler takes, checked offline by the autoscaler's own validation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER_FILE = Path(__file__).resolve().parents[1] / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER_FILE.read_text())


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as `ray up` has it after filling in AWS's defaults; raises when it is not valid."""
    complete = prepare_config(copy.deepcopy(config))
    validate_config(complete)
    return complete


def test_the_autoscaler_accepts_it(cluster):
    assert prepared(cluster)["cluster_name"] == cluster["cluster_name"]


@pytest.mark.parametrize("where", [(), ("docker",), ("available_node_types", "gpu_worker")])
def test_an_unknown_key_is_rejected(cluster, where):
    section = cluster
    for key in where:
        section = section[key]
    section["not_a_key"] = 1
    with pytest.raises(jsonschema.ValidationError, match="not_a_key"):
        prepared(cluster)


def test_the_head_has_no_trial_slots_and_the_workers_scale_from_zero(cluster):
    complete = prepared(cluster)
    nodes = complete["available_node_types"]
    head = nodes.pop(complete["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    for worker in nodes.values():
        assert worker["min_workers"] == 0 < worker["max_workers"] <= complete["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_no_node_installs_an_unpinned_or_nightly_ray(cluster):
    complete = prepared(cluster)
    image = complete["docker"]["image"]
    version = image.partition(":")[2].split("-")[0]
    assert version[0].isdigit(), image
    for kind in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for command in complete[kind]:
            assert "ray-wheels" not in command and "dev0" not in command
    assert any(f"ray[default,tune]=={version}" in command for command in complete["setup_commands"])


def test_the_dashboard_listens_on_loopback_only(cluster):
    (start,) = (line for line in prepared(cluster)["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in start and "0.0.0.0" not in start
