"""A cluster of three nodes that are lost, cut off and returned in mid-study, each in a network namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import ray.cloudpickle
from doubles.cheap import (
    RECORDS,
    Cheap,
    assert_each_replicate_once,
    assert_equal_tables,
    records,
    study_file,
    trials,
    wait_until,
)

from rem_study.search.own_ray import read_token_anew
from rem_study.study.launch import launch

NETWORK = "10.213.7"
PORT = 26379
# A node that is silent for 4 s is lost: with Ray's own 30 s the test would wait longer, and show the same.
SOON = {"health_check_initial_delay_ms": 2000, "health_check_period_ms": 1000, "health_check_failure_threshold": 4}


def sh(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not see the folder of the tests


class Slow(Cheap):
    """Long enough for a node to be missed while the study runs."""

    pace = 2.5


class Nodes:
    """A head here without trial slots, and nodes that reach it over a bridge."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        # Each its own, as on machines of their own: nodes that start at once would take each other's sockets.
        self._temporary = Path("/tmp") / f"rem-nodes-{os.getpid()}"  # a socket's path holds 107 characters at most
        self._raylets: dict[int, subprocess.Popen] = {}

    def start(self) -> None:
        sh("ip", "link", "add", "rem-br", "type", "bridge")
        sh("ip", "address", "add", f"{NETWORK}.1/24", "dev", "rem-br")
        sh("ip", "link", "set", "rem-br", "up")
        for node in (2, 3, 4):
            sh("ip", "netns", "add", f"rem-{node}")
            sh("ip", "link", "add", f"rem-v{node}", "type", "veth", "peer", "name", "eth0", "netns", f"rem-{node}")
            sh("ip", "link", "set", f"rem-v{node}", "master", "rem-br", "up")
            inside = ("ip", "-n", f"rem-{node}")
            sh(*inside, "address", "add", f"{NETWORK}.{node}/24", "dev", "eth0")
            sh(*inside, "link", "set", "eth0", "up")
            sh(*inside, "link", "set", "lo", "up")
        head = ("--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        self._ray(1, *head, f"--system-config={json.dumps(SOON)}")
        for node in (2, 3, 4):
            self.join(node)

    def join(self, node: int) -> None:
        """A new Ray on a node, as an autoscaler or a supervisor starts one."""
        self._ray(node, f"--address={NETWORK}.1:{PORT}", "--num-cpus=1")

    def kill(self, node: int) -> None:
        """Every process of the node at once, as when its power goes."""
        for pid in sh("ip", "netns", "pids", f"rem-{node}").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def cut_off(self, node: int) -> None:
        """No packet gets through; the node itself runs on."""
        sh("ip", "link", "set", f"rem-v{node}", "down")

    def plug_in(self, node: int) -> None:
        sh("ip", "link", "set", f"rem-v{node}", "up")

    def stop(self) -> None:
        for node in (2, 3, 4):
            with contextlib.suppress(OSError):
                self.kill(node)
            with contextlib.suppress(OSError):
                sh("ip", "netns", "delete", f"rem-{node}")
            with contextlib.suppress(OSError):  # it outlives its namespace while a process there is ending
                sh("ip", "link", "delete", f"rem-v{node}")
        if 1 in self._raylets:
            os.killpg(self._raylets[1].pid, signal.SIGKILL)
        for process in self._raylets.values():
            process.wait()
        with contextlib.suppress(OSError):
            sh("ip", "link", "delete", "rem-br")
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _ray(self, node: int, *options: str) -> None:
        where = ["ip", "netns", "exec", f"rem-{node}"] if node > 1 else []
        ray = str(Path(sys.executable).with_name("ray"))
        command = [*where, ray, "start", "--block", f"--node-ip-address={NETWORK}.{node}", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000", f"--temp-dir={self._temporary / str(node)}", *options]
        with open(self._logs / f"node-{node}.log", "ab") as log:
            self._raylets[node] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def answering_all() -> Iterator[None]:
    """`ray.init(address="local")` of an earlier test has this process ask for a token for good, which no node shows."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        read_token_anew()
        yield
    read_token_anew()


@pytest.fixture(scope="module")
def nodes(answering_all, tmp_path_factory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        try:
            made.start()
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")

        def up() -> bool:
            with contextlib.suppress(Exception):
                ray.init(address=f"{NETWORK}.1:{PORT}", log_to_driver=False, ignore_reinit_error=True)
                return alive() == 4
            return False

        wait_until(up, seconds=180, pause=1)
        yield made
    finally:
        ray.shutdown()
        made.stop()


def alive() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def disturbed(root: Path, disturb: Callable[[Path], None]) -> Path:
    """Run the study while `disturb` is at work in another thread; its failure is the test's."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            disturb(root / "cheap")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    outcome = launch(study_file(root, resources={"concurrent": 3}), root, worker=Slow)
    thread.join()
    assert not failures, failures
    assert outcome.done
    return outcome.folder


@pytest.mark.slow
def test_nodes_killed_cut_off_and_returned_lose_no_trial_and_count_none_twice(nodes, tmp_path):
    undisturbed = launch(study_file(tmp_path / "calm"), tmp_path / "calm", worker=Cheap).folder

    def disturb(folder: Path) -> None:
        wait_until(lambda: records(folder) >= 12)
        nodes.kill(2)
        wait_until(lambda: alive() == 3)
        wait_until(lambda: records(folder) >= 24)  # what was lost with it has run again by now
        nodes.cut_off(3)
        wait_until(lambda: alive() == 2)
        nodes.plug_in(3)  # it comes back as what the cluster has given up, and ends itself
        nodes.join(3)
        nodes.join(2)
        wait_until(lambda: alive() == 4)
        assert records(folder) < RECORDS, "the study ended before the nodes were back: nothing was shown"

    folder = disturbed(tmp_path / "rough", disturb)
    assert (trials(folder)["state"] == "complete").all()
    assert records(folder) == RECORDS
    assert_each_replicate_once(folder)
    assert_equal_tables(undisturbed, folder)


@pytest.mark.slow
def test_a_study_waits_while_no_node_is_left_and_goes_on_when_one_comes(nodes, tmp_path):
    undisturbed = launch(study_file(tmp_path / "calm"), tmp_path / "calm", worker=Cheap).folder
    wait_until(lambda: alive() == 4)

    def disturb(folder: Path) -> None:
        wait_until(lambda: records(folder) >= 10)
        for node in (2, 3, 4):
            nodes.kill(node)
        wait_until(lambda: alive() == 1)
        stopped_at = records(folder)
        nodes.join(4)
        wait_until(lambda: alive() == 2)
        wait_until(lambda: records(folder) >= stopped_at + 5)

    folder = disturbed(tmp_path / "rough", disturb)
    assert (trials(folder)["state"] == "complete").all()
    assert_each_replicate_once(folder)
    assert_equal_tables(undisturbed, folder)
