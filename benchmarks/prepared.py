"""What a large folder of images costs: to prepare, to check, to a worker's start; and the memory of all processes.

    python benchmarks/prepared.py [--images 20000] [--size 224] [--folder DIR] [--only make prepare check worker ...]

A folder of JPEGs of 256 x 256 pixels is made (a tenth of them more for the test part), then each of these runs in a
process of its own:

- `prepare`: the images decoded, resized and written, by all cores;
- `check`: `rem-study check` before and after that;
- `worker`: what a worker does before its first batch, the set prepared: import, open, the first 512 images;
- `rate`: images/s of decoding and resizing 5,000 of them, against torchvision's ImageFolder with as many DataLoader
  workers as there are cores; in turns, `--rounds` times; the median of the ratios is what counts on a busy machine;
- `memory`: a driver and `--workers` workers that each go through the whole set: the sum of their resident memory in
  which a page that several share counts once (PSS), and of what each has alone;
- `study`: a study of as many originals, launched on a Ray of its own with a trial slot for each: the same sum of the
  launch and its workers, sampled while they train, where it is largest; stopped when that has not grown for a minute.

`--code DIR` runs `check` and `worker` by another checkout, for a comparison with how it was. Printed: seconds of wall
time and of CPU, and peak memory of the process that does it. On a busy machine look at the CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from common import ROOT

PARTS = ("make", "check", "prepare", "checked", "worker", "rate", "memory", "study")
MIB = 2**20
RATED = 5_000
"""Images that rates are taken from."""
PORT = 26_391
"""Of the study's Ray."""
STEADY, MARGIN = 60, 50
"""Seconds in which the study's memory grows by no more than so many MiB: it has read what it reads."""


def make(folder: Path, images: int) -> None:
    """`images` training and a tenth as many test JPEGs of 256 x 256, ten classes: blurred noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", images), ("test", images // 10)):
        for number in range(count):
            place = folder / part / f"class{number % 10}"
            place.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            coarse.resize((256, 256), Image.Resampling.BICUBIC).save(place / f"{number:06}.jpg", quality=85)


def study_file(folder: Path, size: int) -> Path:
    """A study on those images."""
    document = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())
    document["data"] = {"name": "folder", "root": str(folder), "image_size": size}
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(document))
    return path


PREPARE = """
from pathlib import Path
from rem_study.data import load_dataset
from rem_study.data.place import prepared_under
from rem_study.spec import load_study
with prepared_under(Path({root!r})):
    data = load_dataset(load_study(Path({study!r})).spec.data)
"""
WORKER = """
from pathlib import Path
import torch
from rem_study.data import load_dataset
from rem_study.spec import load_study
data_spec = load_study(Path({study!r})).spec.data
try:
    from rem_study.data.place import settle
    settle(Path({root!r}))
except ImportError:  # the code as it was
    pass
data = load_dataset(data_spec)
data.normalise(data.train_images[torch.randperm(len(data.train_images))[:512]])
"""
MEMORY = """
import sys
data.fingerprint
for ids in torch.arange(len(data.train_images)).split(512):
    data.normalise(data.train_images[ids])
print("ready", flush=True)
sys.stdin.readline()
"""


def measured(command: list[str], code: Path) -> str:
    """Run `command` by the checkout `code`: what it took."""
    began, child = time.perf_counter(), os.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(code)
        os.chdir(code)  # which Python looks in first
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.executable, [sys.executable, *command])
    _, status, usage = os.wait4(child, 0)
    wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    ended = "" if status == 0 else f", exit {os.waitstatus_to_exitcode(status)}"
    return f"{wall:.1f} s, {cpu:.1f} s of CPU, {usage.ru_maxrss * 1024 / MIB:.0f} MiB{ended}"


def rates(folder: Path, size: int, rounds: int) -> None:
    """Images/s, and images a second of CPU, of ours and of torchvision's, by turns over the same part of the images."""
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from rem_study.data.folder import list_folder
    from rem_study.data.gather import cores, in_order
    from rem_study.spec import DataSpec

    transform = v2.Compose([v2.Resize((size, size), antialias=True), v2.PILToTensor()])
    everything = ImageFolder(str(folder / "train"), transform)
    step = max(1, len(everything) // RATED)
    theirs = DataLoader(Subset(everything, range(0, len(everything), step)), batch_size=64, num_workers=cores())
    spec = DataSpec(name="folder", root=str(folder), image_size=size)
    part = list_folder(folder, spec).train

    def ours() -> int:
        return sum(len(some.images) for some in in_order(part.sample(RATED)))

    def as_torchvision() -> int:
        return sum(len(images) for images, _ in theirs)

    ratios = []
    for _ in range(rounds):
        (wall, cpu), (other_wall, other_cpu) = (_timed(read) for read in (ours, as_torchvision))
        ratios.append((wall / other_wall, cpu / other_cpu))
        print(f"  {wall:.0f} against {other_wall:.0f} images/s, {cpu:.0f} against {other_cpu:.0f} a second of CPU")
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"rate: {wall:.2f} of torchvision's with {cores()} loader workers; by CPU time {cpu:.2f}", flush=True)


def _timed(read: Callable[[], int]) -> tuple[float, float]:
    """Images that `read` reads a second, and a second of CPU, of its child processes too."""

    def cpu() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in both)

    began, used = time.perf_counter(), cpu()
    count = read()
    return count / (time.perf_counter() - began), count / (cpu() - used)


def memory(script: str, workers: int, code: Path) -> None:
    """Proportional and private memory of a driver and its workers, all of which have read the whole set."""
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    children = []
    for _ in range(workers + 1):
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=code,
        )
        assert child.stdout is not None
        child.stdout.readline()
        children.append(child)
    each = [_mapped(child.pid) for child in children]
    for child in children:
        child.communicate("\n")
    print(f"memory: {_together(each)}", flush=True)


def _mapped(process: int) -> dict[str, float]:
    """What a process maps, in MiB, by the names of smaps_rollup."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}


def _together(each: list[dict[str, float]]) -> str:
    told = {name: sum(one[name] for one in each) for name in ("Pss", "Pss_Anon", "Pss_File")}
    return f"{len(each)} processes, PSS " + ", ".join(f"{name} {value:.0f} MiB" for name, value in told.items())


def of_a_study(folder: Path, root: Path, size: int, workers: int, code: Path) -> None:
    """The most that a launch and its workers hold together while `workers` originals are trained at once."""
    document = yaml.safe_load(study_file(folder, size).read_text())
    document |= {
        "name": "memory",
        "original": {"epochs": 1, "batch_size": 64},
        "corruptions": [{"name": "random_label", "samples": 100}],
        "discovery_rates": [1.0],
        "methods": ["ssd"],
        "budget": {"trials": 1, "replicates": workers},
    }
    path = folder.with_suffix(".study.yaml")
    path.write_text(yaml.safe_dump(document))
    environment = os.environ | {"PYTHONPATH": str(code), "RAY_AUTH_MODE": "disabled"}  # a token may lie in the home
    quiet: dict[str, Any] = {
        "env": environment,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": code,
    }
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:
        head = ["-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={workers}", f"--port={PORT}"]
        head += ["--disable-usage-stats", "--include-dashboard=false", f"--temp-dir={temporary}"]
        ray = subprocess.Popen([sys.executable, *head], **quiet)
        launch = ["-m", "rem_study.cli", "launch", str(path), "--root", str(root), "--address", f"127.0.0.1:{PORT}"]
        study = subprocess.Popen([sys.executable, *launch], **quiet)
        most: list[dict[str, float]] = []
        grown = time.monotonic()
        while study.poll() is None and time.monotonic() - grown < STEADY:
            time.sleep(1)
            found = []
            for number in (study.pid, *_workers()):
                with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
                    found.append(_mapped(number))
            if _whole(found) > _whole(most) + MARGIN:
                most, grown = found, time.monotonic()
        stopped = "" if study.poll() is None else f"it ended by itself, exit {study.returncode}; "
        for process in (study, ray):
            process.terminate()
            process.wait()
    print(f"study: {stopped}{_together(most)}", flush=True)


def _whole(each: list[dict[str, float]]) -> float:
    return sum(one["Pss"] for one in each)


def _workers() -> list[int]:
    """Ray's workers that have begun something."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if place.read_bytes().startswith(b"ray::"):
                found.append(int(place.parent.name))
    return found


def main() -> None:
    """Make, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "rem-study-images"))
    parser.add_argument("--root", type=Path, help="of prepared sets; default: beside the folder")
    parser.add_argument("--code", type=Path, default=ROOT, help="a checkout")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    folder, root = arguments.folder.resolve(), (arguments.root or arguments.folder.with_suffix(".runs")).resolve()
    if "make" in arguments.only and not folder.exists():
        make(folder, arguments.images)
    study = study_file(folder, arguments.size)
    names = {"root": str(root), "study": str(study)}
    check = ["-m", "rem_study.cli", "check", str(study)]
    check += ["--root", str(root)] if (arguments.code / "rem_study" / "data" / "place.py").exists() else []
    commands = {
        "check": check,
        "prepare": ["-c", PREPARE.format(**names)],
        "checked": check,
        "worker": ["-c", WORKER.format(**names)],
    }
    print(f"{arguments.images} images to {arguments.size} pixels, load {os.getloadavg()[0]:.1f}", flush=True)
    for name in arguments.only:
        if name in commands:
            print(f"{name}: {measured(commands[name], arguments.code)}", flush=True)
    if "rate" in arguments.only:
        rates(folder, arguments.size, arguments.rounds)
    if "memory" in arguments.only:
        memory(WORKER.format(**names) + MEMORY, arguments.workers, arguments.code)
    if "study" in arguments.only:
        of_a_study(folder, root, arguments.size, arguments.workers, arguments.code)


if __name__ == "__main__":
    main()
