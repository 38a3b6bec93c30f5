"""A study as a Ray job: the cluster's head runs the driver, which outlives the machine that submits it.

Only what the job needs travels: the study file, the search spaces of the user's own that it names, and rem_study itself
where it is no installed release. Data, originals and the study's folder are the cluster's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from rem_study.errors import ClusterError, InputError
from rem_study.spec.resolve import read_document, resolve
from rem_study.spec.shipped import shipped_folder
from rem_study.storage.credentials import redact, without_credentials
from rem_study.storage.folder import CLIENTS
from rem_study.study.preflight import preflight, preflight_without_data
from rem_study.version import __version__

DISTRIBUTION = "rem-study"
PACKAGE = Path(__file__).parents[1]
PACKAGES = (
    "click",
    "fsspec",
    "matplotlib",
    "mlflow",
    "numpy",
    "optuna",
    "packaging",
    "pandas",
    "plotly",
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "PyYAML",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "tqdm",
)
"""What rem_study imports, but for Ray: a job runs on the Ray that its cluster has."""

PATIENCE = 60.0
"""Seconds for which `follow` tries to reach a cluster again that it has lost."""


@dataclass(frozen=True)
class Package:
    """A study made ready to travel.

    Attributes:
        name: the study's.
        command: what the job runs, in the working directory.
        requirements: `NAME==VERSION` each, for pip.
    """

    name: str
    command: list[str]
    requirements: list[str]


@dataclass(frozen=True)
class Submitted:
    """A job on a cluster.

    Attributes:
        job: its submission id.
        new: False if the study was running already, and nothing has been submitted.
    """

    job: str
    new: bool


def pack(
    study_file: Path, destination: Path, root: str, name: str | None = None, overrides: tuple[str, ...] = ()
) -> Package:
    """Check a study as far as that can be done without the cluster's data, and fill the job's working directory.

    Args:
        destination: an empty folder, the working directory to be.
        root: where studies' folders lie on the cluster.

    Raises:
        InputError: one line a mistake; nothing has been written then.
    """
    document = read_document(study_file, overrides, name)
    study = resolve(document, str(study_file), study_file.parent)
    mistakes = [f"{study_file}: {place}" for place in _places_on_this_machine(document)]
    scheme, is_url, _ = root.partition("://")
    if is_url and scheme not in ("s3", "gs"):
        mistakes.append(f"--root: {root} must be a path, or a URL that begins with s3:// or gs://")
    elif not is_url and not PurePosixPath(root).is_absolute():
        mistakes.append(f"--root: {root} must be an absolute path on the cluster, one that every node sees, or a URL")
    uri = study.spec.tracking.uri
    if uri is not None and without_credentials(uri) != uri:
        mistakes.append(
            f"{study_file}: tracking.uri: holds a password, which the cluster's dashboard would show: give it in the "
            "head's environment (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
        )
    if mistakes:
        raise InputError("\n".join(mistakes))
    on_the_cluster = study.spec.data.name != "digits" or any(c.name == "given" for c in study.spec.corruptions)
    (preflight_without_data if on_the_cluster else preflight)(study, str(study_file))

    command = ["python", "-m", "rem_study.cli", "launch", f"study/{study_file.name}", "--address", "auto"]
    command += ["--root", root]
    if name is not None:
        command += ["--name", name]
    (destination / "study").mkdir()
    shutil.copyfile(study_file, destination / "study" / study_file.name)
    for method, space in _own_spaces(document, study_file.parent).items():
        (destination / "spaces").mkdir(exist_ok=True)
        shutil.copyfile(space, destination / "spaces" / f"{method}.yaml")
        overrides += (f"methods.{method}.space=../spaces/{method}.yaml",)
    if isinstance(document.get("warm_start"), str):
        shutil.copyfile(study_file.parent / document["warm_start"], destination / "study" / ".warm_start.yaml")
        overrides += ("warm_start=.warm_start.yaml",)
    for override in overrides:
        command += ["--set", override]
    requirements = [f"{package}=={_public(metadata.version(package))}" for package in PACKAGES]
    if is_url:  # its client is released together with fsspec, and fits that version alone
        requirements.append(f"{CLIENTS[scheme]}=={metadata.version('fsspec')}")
    if is_release():
        requirements.append(f"{DISTRIBUTION}=={__version__}")
    else:
        _copy_code(destination)
    return Package(study.spec.name, command, requirements)


def is_release() -> bool:
    """Whether the code that runs here came from a package index, so that pip finds it: it lies where pip puts
    packages (a checkout with its own egg-info does not), and without direct_url.json (PEP 610)."""
    here = PACKAGE.resolve()
    for name in ("purelib", "platlib"):
        packages = sysconfig.get_path(name)
        for distribution in metadata.distributions(name=DISTRIBUTION, path=[packages]):
            if here == Path(packages).resolve() / "rem_study":
                return distribution.read_text("direct_url.json") is None
    return False


def _public(version: str) -> str:
    """`2.9.1` for `2.9.1+cpu`: which build fits is each machine's own matter."""
    return version.partition("+")[0]


def _copy_code(destination: Path) -> None:
    skipped = shutil.ignore_patterns("__pycache__", "*.py[cod]")
    shutil.copytree(PACKAGE, destination / "rem_study", ignore=skipped)
    for name in ("search_spaces", "studies"):
        shutil.copytree(shipped_folder(name), destination / "rem_study" / name, ignore=skipped, dirs_exist_ok=True)


def _own_spaces(document: dict[str, Any], folder: Path) -> dict[str, Path]:
    methods = document["methods"]
    given = {m: (spec or {}).get("space") for m, spec in methods.items()} if isinstance(methods, dict) else {}
    return {method: folder / space for method, space in given.items() if isinstance(space, str)}


def _places_on_this_machine(document: dict[str, Any]) -> Iterator[str]:
    """Fields whose path would mean another place on the cluster than here."""
    places = {"data.root": (document.get("data") or {}).get("root")}
    for corruption in document["corruptions"]:
        if isinstance(corruption, dict) and corruption.get("name") == "given":
            places["corruptions.given.file"] = corruption["file"]
    for field, place in places.items():
        if place is not None and not place.startswith(("/", "~")):
            yield f"{field}: {place!r} must be an absolute path on the cluster, one that every node sees"


class Cluster:
    """The job server of a Ray cluster.

    Args:
        address: of its dashboard, `http://HEAD:8265`.

    Raises:
        InputError: the address is not one.
        ClusterError: nobody answers there, or not as Ray does.
    """

    def __init__(self, address: str) -> None:
        import requests
        from ray.job_submission import JobSubmissionClient

        if not re.match(r"https?://[^/\s]", address):
            raise InputError(f"--address: {address} must be that of the cluster's dashboard, as in http://HEAD:8265")
        self.address = without_credentials(address)
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they announce each upload
        with self._one_line(), _no_other_address():
            requests.get(address, timeout=10)  # Ray's own client would wait for minutes
            self._client = JobSubmissionClient(address)

    def submit(self, package: Package, working_directory: Path, installed: bool = False) -> Submitted:
        """Start the job, unless one of the same study is running.

        Args:
            installed: the cluster has rem_study's packages; nothing is to be installed there.

        Raises:
            ClusterError: the cluster refuses.
        """
        with self._one_line():
            attempts = {}
            for job in self._client.list_jobs():
                match = re.fullmatch(rf"{DISTRIBUTION}-{re.escape(package.name)}(?:~(\d+))?", job.submission_id or "")
                if match and not job.status.is_terminal():
                    return Submitted(match[0], new=False)
                if match:
                    attempts[int(match[1] or 1)] = job
            # Ray takes each id once; `~` stands in no study's name.
            number = max(attempts, default=0) + 1
            identifier = f"{DISTRIBUTION}-{package.name}" + (f"~{number}" if number > 1 else "")
            environment: dict[str, Any] = {
                "working_dir": str(working_directory),
                "env_vars": {"PYTHONUNBUFFERED": "1"},
            }
            if not installed:
                environment["pip"] = {"packages": package.requirements, "pip_check": False}
            job = self._client.submit_job(
                entrypoint=shlex.join(package.command),
                submission_id=identifier,
                runtime_env=environment,
                metadata={"study": package.name},
            )
        return Submitted(job, new=True)

    def follow(self, job: str, write: Callable[[str], None]) -> str | None:
        """Pass the job's log on, from its beginning, until it ends; returns None if it succeeded, else why not.

        Raises:
            ClusterError: the cluster was lost and could not be reached again.
        """
        seen = 0
        deadline = time.monotonic() + PATIENCE

        async def stream() -> None:
            nonlocal seen, deadline
            skip = seen
            async for text in self._client.tail_job_logs(job):
                deadline = time.monotonic() + PATIENCE
                new, skip = text[skip:], max(0, skip - len(text))
                if new:
                    seen += len(new)
                    write(new)

        while True:
            try:
                asyncio.run(stream())
                details = self._client.get_job_info(job)
                if details.status.is_terminal():
                    break
            except Exception as error:  # of Ray, aiohttp, requests: they have no common base
                if time.monotonic() > deadline:
                    raise ClusterError(f"{self.address}: lost ({_line(error)}); the job goes on") from None
            time.sleep(1)
        if details.status == "SUCCEEDED":
            return None
        return f"{details.status.lower()}: {_line(details.message)}"

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of Ray, requests, json: they have no common base
            raise ClusterError(f"{self.address}: {_line(error)}") from None


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Without these variables, which Ray's client puts before the address that it is given."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _line(reason: object) -> str:
    first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return redact(first)[:300].rstrip(".:")


def submit(
    study_file: Path,
    address: str,
    root: str,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    installed: bool = False,
) -> tuple[Cluster, Submitted]:
    """Check the study file and submit it to the cluster at `address`.

    Raises:
        InputError: the input is wrong; nothing has been submitted.
        ClusterError: the cluster cannot be reached, or refuses.
    """
    with tempfile.TemporaryDirectory(prefix="rem-study-submit-") as place:
        folder = Path(place)
        package = pack(study_file, folder, root, name, overrides)
        print(f"connecting to {without_credentials(address)}", file=sys.stderr)
        cluster = Cluster(address)
        return cluster, cluster.submit(package, folder, installed)
