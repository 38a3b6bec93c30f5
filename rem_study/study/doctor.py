"""`rem-study doctor`: whether what a launch stands on is right here, and what to do where it is not."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

GIB = 2**30
LOW_DISK, FULL_DISK = 5 * GIB, GIB // 4
SMALL_SHM = GIB // 2
"""Of /dev/shm; Docker's default is 64 MiB. Ray then keeps its objects in a file under its temporary folder."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, `ok`, `warning` or `wrong` (a launch stops there), what was found, and the remedy."""

    subject: str
    state: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:8} {self.subject:16} {self.found}"
        return f"{line}\n{'':8} {'':16} remedy: {self.remedy}" if self.remedy else line


def findings(root: Path, ui_port: int) -> Iterator[Finding]:
    """Look at everything in turn; a look that breaks is itself wrong.

    Args:
        root: where studies' folders lie (`--root`).
        ui_port: of `rem-study ui`.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("torch", _torch),
        ("torchvision", _torchvision),
        ("home", lambda: _folder("home", Path.home(), "set HOME to a folder of your own")),
        ("temporary folder", lambda: _folder("temporary folder", Path(tempfile.gettempdir()), "set TMPDIR to another")),
        ("studies", lambda: _folder("studies", root, "launch with another --root")),
        ("shared memory", _shared_memory),
        ("ports", lambda: _ports(ui_port)),
        ("Ray", _ray),
        ("MLflow", _mlflow),
    ]
    for subject, look in looks:
        try:
            yield from look()
        except Exception as error:
            yield Finding(subject, "wrong", f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], _AGAIN)


_AGAIN = "install rem-study again, into an environment of its own: python -m venv .venv"


def _python() -> Iterator[Finding]:
    least = (3, 10)  # as pyproject.toml says
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < least:
        yield Finding("Python", "wrong", found, f"use {least[0]}.{least[1]} or newer")
    else:
        yield Finding("Python", "ok", found)


def _packages() -> Iterator[Finding]:
    wrong = []
    for text in metadata.requires("rem-study") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, {requirement.specifier} is needed")
    if wrong:
        yield Finding("packages", "wrong", "; ".join(wrong), "pip install --upgrade rem-study")
    else:
        yield Finding("packages", "ok", "all that rem-study needs, in versions that it takes")


def _torch() -> Iterator[Finding]:
    import torch

    built = f"{torch.__version__}, built {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'for CPU only'}"
    card = _nvidia()
    if torch.version.cuda and torch.cuda.is_available():
        torch.ones(64, 64, device="cuda").sum().item()
        yield Finding("torch", "ok", f"{built}; {torch.cuda.device_count()} GPU(s): {torch.cuda.get_device_name(0)}")
    elif card and not torch.version.cuda:
        yield Finding(
            "torch",
            "warning",
            f"{built}, but there is a GPU ({card})",
            "install torch and torchvision from one index that has CUDA builds; without, studies run on the CPU",
        )
    elif card:
        yield Finding(
            "torch",
            "warning",
            f"{built}, which cannot use the GPU that is here ({card})",
            "its driver is older than the build's CUDA, or the GPU is not passed into this container: a newer driver, "
            "a torch built for an older CUDA, or `docker run --gpus all`",
        )
    else:
        yield Finding("torch", "ok", f"{built}; no NVIDIA GPU here, so on the CPU")


def _nvidia() -> str:
    """The first GPU and its driver, as the driver says; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "an NVIDIA driver, nvidia-smi is missing" if Path("/proc/driver/nvidia/version").exists() else ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, timeout=30)
    name, _, driver = (asked.stdout.splitlines() or [""])[0].partition(",")
    return f"{name.strip()}, driver {driver.strip()}" if asked.returncode == 0 and name else ""


def _torchvision() -> Iterator[Finding]:
    import torch

    version = metadata.version("torchvision")
    remedy = "install both from one index in one command: pip install --force-reinstall torch torchvision"
    for requirement in map(Requirement, metadata.requires("torchvision") or []):
        if requirement.name != "torch" or requirement.specifier.contains(torch.__version__, prereleases=True):
            continue
        told = f"{version} is made for torch {requirement.specifier}, here is {torch.__version__}"
        yield Finding("torchvision", "wrong", told, remedy)
        return
    try:
        ops = importlib.import_module("torchvision.ops")
        ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:
        yield Finding("torchvision", "wrong", f"{version}: {' '.join(str(error).split())}"[:300], remedy)
        return
    yield Finding("torchvision", "ok", f"{version}, which matches torch")


def _folder(subject: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """Whether a file can be written there, or where the folder would be made, and how much room is left."""
    place = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path("/"))
    try:
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        yield Finding(subject, "wrong", f"{folder} cannot be written ({error.strerror or error})", remedy)
        return
    free = shutil.disk_usage(place).free
    told = f"{folder}: can be written, {_size(free)} free"
    state = "wrong" if free < FULL_DISK else "warning" if free < LOW_DISK else "ok"
    yield Finding(subject, state, told, "" if state == "ok" else f"make room there, or {remedy}")


def _shared_memory() -> Iterator[Finding]:
    place = Path("/dev/shm")
    if not place.is_dir():
        yield Finding("shared memory", "ok", "no /dev/shm on this system; Ray keeps its objects in files")
        return
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK) or free < SMALL_SHM:
        yield Finding(
            "shared memory",
            "warning",
            f"/dev/shm: {_size(free)} free, or not writable; Ray then keeps its objects in files, which is slower",
            "in Docker: docker run --shm-size=2g; else mount -o remount,size=2G /dev/shm",
        )
    else:
        yield Finding("shared memory", "ok", f"/dev/shm: {_size(free)} free")


def _ports(ui_port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=5):
                pass
        except OSError as error:
            told = f"this machine cannot reach itself on 127.0.0.1 ({error.strerror or error})"
            yield Finding("ports", "wrong", told, "let programs listen and connect on loopback: Ray and MLflow do")
            return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", ui_port)) == 0:
            told = f"loopback works; port {ui_port}, which `rem-study ui` takes, is another server's"
            yield Finding("ports", "warning", told, f"rem-study ui DIR --port {ui_port + 1}")
            return
    yield Finding("ports", "ok", f"loopback works; {ui_port}, which `rem-study ui` takes, is free")


def _ray() -> Iterator[Finding]:
    """Started as a launch starts it, and made to run something."""
    from rem_study.errors import ClusterError
    from rem_study.search.connection import connected

    def process() -> int:
        return os.getpid()

    began = time.monotonic()
    try:
        with connected(None, keep_logs=lambda: False):
            import ray

            answer = ray.get(ray.remote(process).remote(), timeout=120)
            cpus = ray.cluster_resources().get("CPU", 0)
    except ClusterError as error:
        yield Finding(
            "Ray",
            "wrong",
            str(error)[:300],
            "try again when the machine is less busy; Ray's own logs are under $RAY_TMPDIR, or /tmp/ray",
        )
        return
    took = time.monotonic() - began
    version = metadata.version("ray")
    if answer == os.getpid() or not cpus:
        yield Finding("Ray", "wrong", f"{version}: started, but no worker ran", "free a processor for it")
    else:
        yield Finding("Ray", "ok", f"{version}: started in {took:.0f} s, {cpus:g} CPU(s), a worker answered")


def _mlflow() -> Iterator[Finding]:
    """A run really written, as the writer does it, into a database that is thrown away."""
    from rem_study.tracking.client import quicken_sqlite

    quicken_sqlite()
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its tables are of no interest here
    with tempfile.TemporaryDirectory() as place:
        client = MlflowClient(f"sqlite:///{place}/mlflow.db")
        run = client.create_run(client.create_experiment("doctor", artifact_location=place))
        client.log_metric(run.info.run_id, "one", 1.0)
        client.set_terminated(run.info.run_id)
    yield Finding("MLflow", "ok", f"{metadata.version('mlflow')}: a run was written into SQLite")


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
