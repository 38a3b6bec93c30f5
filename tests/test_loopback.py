"""Nothing that a launch starts listens beyond loopback, unless it was given a cluster's address."""

import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMOKE = Path(__file__).parents[1] / "studies" / "smoke.yaml"


@pytest.mark.slow
def test_every_socket_of_a_local_launch_listens_on_loopback(tmp_path):
    from ray._private.process_watcher import psutil  # Ray brings its own

    command = [sys.executable, "-m", "rem_study.cli", "launch", str(SMOKE), "--root", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    listening: dict[str, set[str]] = {}
    launch = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while launch.poll() is None:
        for process in _family(psutil, launch.pid):
            try:
                sockets = process.net_connections("inet")
                name = process.name()
            except psutil.Error:  # it has ended meanwhile
                continue
            unconnected = [s for s in sockets if s.status == psutil.CONN_LISTEN or (s.type.name == "SOCK_DGRAM")]
            listening.setdefault(name, set()).update(s.laddr.ip for s in unconnected if s.laddr and not s.raddr)
        time.sleep(0.2)
    assert launch.returncode == 0
    assert listening["raylet"] and listening["gcs_server"], listening
    assert {name: ips for name, ips in listening.items() if not all(map(_is_loopback, ips))} == {}


def _family(psutil, pid: int) -> list:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
