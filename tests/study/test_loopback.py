"""Nothing that a launch starts listens beyond loopback, unless it was given a cluster's address."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.sockets import is_loopback, listening

SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"


@pytest.mark.slow
def test_every_socket_of_a_local_launch_listens_on_loopback(tmp_path):
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(SMOKE), "--root", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    found: dict[str, set[tuple[str, int]]] = {}
    launch = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while launch.poll() is None:
        for name, places in listening(launch.pid).items():
            found.setdefault(name, set()).update(places)
        time.sleep(0.2)
    assert launch.returncode == 0
    assert found["raylet"] and found["gcs_server"], found
    outward = {name: {ip for ip, _ in places if not is_loopback(ip)} for name, places in found.items()}
    assert {name: ips for name, ips in outward.items() if ips} == {}
