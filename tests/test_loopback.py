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


def listening(pid: int) -> dict[str, set[tuple[str, int]]]:
    """Address and port of each socket that `pid` or a process below it waits on, by the process's name."""
    from ray._private.process_watcher import psutil  # Ray brings its own

    found: dict[str, set[tuple[str, int]]] = {}
    for process in family(pid):
        try:
            sockets = process.net_connections("inet")
            name = process.name()
        except psutil.Error:  # it has ended meanwhile
            continue
        unconnected = [s for s in sockets if s.status == psutil.CONN_LISTEN or (s.type.name == "SOCK_DGRAM")]
        found.setdefault(name, set()).update((s.laddr.ip, s.laddr.port) for s in unconnected if s.laddr and not s.raddr)
    return found


def family(pid: int) -> list:
    """The process `pid` and all below it, as psutil has them."""
    from ray._private.process_watcher import psutil

    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
