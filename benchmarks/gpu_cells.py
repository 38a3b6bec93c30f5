"""Configurations in cells of a study, in the order of their worth, until a deadline: one prepared call for whoever has
a GPU for ten minutes.

    python benchmarks/gpu_cells.py STUDY --out FILE --deadline SECONDS [--cells poison@0.1 ...] [--configurations FILE]
        [--originals DIR] [--save-originals DIR] [--load-originals DIR] [--replicates N] [--device cuda]
        [--set key.path=value ...]

It trains what originals are missing in DIR, unless another machine's call has saved them, and appends a JSON line to
FILE as each run ends (cells_file.py reads them, docs/gpu_tables.py makes tables of them). Killed or out of time, the
same call goes on: what FILE has is not run again, failed runs included. It needs the lower half of rem_study alone:
torch, torchvision, numpy, pydantic, PyYAML.

The configurations are a YAML or JSON list, the most telling first; without one, each method of the study runs at its
default, REM first:

    - {label: released, method: rem, set: {remove_average: batch}}
    - {label: NPO, method: npo, cells: [poison@0.1, random_label@1]}     # cells: in this order; default: all

Order: replicate 0 of the first configuration in all its cells, then of the second, ...; then replicate 1. A run is not
begun if it would end after the deadline, were it to take as long as the longest run of its method so far (of any
method, if this one has not run yet; a missing original as long as the longest original); a shorter one further down
may be. What was never timed is begun. SECONDS count from the moment PyTorch is loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from cells_file import CellsFile, Line
from cells_plan import Run, defaults, key_of, plan, read_entries
from common import ROOT, machine

from rem_study.errors import InputError
from rem_study.spec.resolve import load_study
from rem_study.spec.shipped import find_study
from rem_study.spec.study import StudySpec
from rem_study.spec.yaml_file import one_line
from rem_study.storage.canonical import canonical_json
from rem_study.trial.code import results_fingerprint
from rem_study.trial.originals import Original, OriginalStore, Setting
from rem_study.trial.trial import Cell, evaluate, run_trial

TASK_FIELDS = ("model", "original", "precision", "corruptions", "protocol", "objective", "max_utility_loss", "seed")
AS_IT_IS = ("healed", "utility", "test_accuracy", "utility_x_healed")
"""What is measured of an original before anything is unlearned."""


@dataclass
class Pace:
    """The longest time in seconds that each kind of job has taken so far: methods by name, and originals."""

    longest: dict[str, float] = field(default_factory=dict)
    originals: float = 0.0

    def note(self, line: Line) -> None:
        """Learn from a line of the file; what was not carried through tells nothing."""
        if line["what"] == "original" and line["trained"] and line["state"] == "complete":
            self.originals = max(self.originals, line["seconds"])
        if line["what"] == "run" and line["state"] == "complete":
            self.longest[line["method"]] = max(self.longest.get(line["method"], 0.0), line["seconds"])

    def of(self, method: str) -> float:
        """How long a run of `method` may take, as far as is known."""
        return self.longest.get(method, max(self.longest.values(), default=0.0))


class Session:
    """Runs in order, each written as it ends, until the time is up."""

    def __init__(
        self,
        spec: StudySpec,
        file: CellsFile,
        store: OriginalStore,
        device: str,
        ends: float,
        save_to: Path | None = None,
        load_from: Path | None = None,
    ) -> None:
        """`ends`: by the clock of `time.monotonic`."""
        self._spec, self._file, self._store, self._device, self._ends = spec, file, store, device, ends
        self._save_to, self._load_from = save_to, load_from
        self._bases: dict[tuple[str, int], bool] = {}  # originals asked for in this call: whether there is one
        self._pace = Pace()
        self._done: set[tuple[str, str, str, int]] = set()
        self._told: set[tuple[str, int]] = set()  # originals that have a line
        for line in file.lines:
            if line["device"] == device_name(device):
                self._pace.note(line)
            if line["what"] == "run":
                self._done.add(key_of(line["cell"], line["method"], line["configuration"], line["replicate"]))
            elif line["what"] == "original" and line["state"] == "complete":
                self._told.add((line["corruption"], line["replicate"]))

    def run_all(self, runs: Sequence[Run]) -> int:
        """Make `runs`, as far as there is time; returns how many were left."""
        left = 0
        for run in runs:
            if run.key in self._done:
                continue
            setting = Setting(self._spec, run.trial.cell.corruption, run.trial.replicate, self._device, self._store)
            if run.base not in self._bases and self._load_from is not None:
                load_original(self._load_from / saved_name(*run.base), setting, self._store)
            expected = self._pace.of(run.trial.method)
            if run.base not in self._bases and not self._store.has(setting.key()):
                expected += self._pace.originals
            if time.monotonic() + expected > self._ends:
                left += 1
                continue
            if run.base not in self._bases:
                self._bases[run.base] = self._prepare(run, setting)
            if not self._bases[run.base]:
                left += 1
                continue
            self._make(run)
        return left

    def _prepare(self, run: Run, setting: Setting) -> bool:
        """Load or train an original and tell of it; returns whether it worked."""
        corruption, replicate = run.base
        trained, start = not self._store.has(setting.key()), time.perf_counter()
        line: Line = {"what": "original", "corruption": corruption, "replicate": replicate, "trained": trained}
        try:
            original = self._store.obtain(setting)
            line |= {"seconds": time.perf_counter() - start, "state": "complete", "error": None} | original.facts
            if run.base not in self._told:
                line |= self._as_it_is(run.trial.cell, setting, original)
        except Exception as error:
            line |= {"seconds": time.perf_counter() - start} | failed(error)
            self._tell(line, f"original {corruption} {replicate}", str(line["error"]))
            return False
        if self._save_to is not None:
            save_original(self._save_to / saved_name(corruption, replicate), setting, original)
        if run.base not in self._told:
            quality = f"memorised {line['memorised']:.3f}, test accuracy {line['test_accuracy']:.3f}"
            self._tell(line, f"original {corruption} {replicate}", quality)
        return True

    def _as_it_is(self, cell: Cell, setting: Setting, original: Original) -> Line:
        network = setting.fresh_network("original")
        network.load_state_dict(original.state)
        scores = evaluate(network, self._spec, cell, setting, setting.draw())
        return {f"as_it_is_{name}": scores[name] for name in AS_IT_IS}

    def _make(self, run: Run) -> None:
        trial, start = run.trial, time.perf_counter()
        line: Line = {
            "what": "run",
            "label": run.entry.label,
            "method": trial.method,
            "cell": trial.cell.name,
            "corruption": trial.cell.corruption.name,
            "discovery_rate": trial.cell.discovery_rate,
            "replicate": trial.replicate,
            "set": run.entry.set,
            "configuration": trial.configuration,
        }
        try:
            line |= run_trial(self._spec, trial, self._store, self._device)
        except Exception as error:
            line |= failed(error)
        line["seconds"] = time.perf_counter() - start
        result = line["error"]
        if line["state"] == "complete" and line["utility_x_healed"] is not None:
            result = f"utility x healed {line['utility_x_healed']:.3f} ({line['healed']:.3f}; {line['utility']:.3f})"
        self._done.add(run.key)
        self._tell(line, f"{trial.cell.name} {trial.replicate} {run.entry.label}", result)

    def _tell(self, line: Line, name: str, result: str | None) -> None:
        self._file.append(line)
        self._pace.note(line)
        print(f"{name}: {line['seconds']:.1f} s, {result}", flush=True)
        if line["state"] == "failed" and self._device.startswith("cuda"):
            torch.cuda.synchronize()  # raises where the card answers no more: later runs would only fail with it
            torch.cuda.empty_cache()


def failed(error: Exception) -> Line:
    """Columns of what could not be carried through."""
    return {"state": "failed", "error": f"{type(error).__name__}: {one_line(error)}"}


def saved_name(corruption: str, replicate: int) -> str:
    """The file of an original under --save-originals."""
    return f"{corruption}-{replicate}.pt"


def load_original(path: Path, setting: Setting, store: OriginalStore) -> None:
    """Store what `save_original` has written, if it is there and `setting` has no original yet.

    Raises:
        InputError: it is damaged, or of another network, or of other corrupted samples.
    """
    if not path.exists() or store.has(setting.key()):
        return
    try:
        saved = torch.load(path, weights_only=True)
        for name, own in corrupted_samples(setting).items():
            if not (saved[name] is own is None or torch.equal(saved[name], own)):
                raise InputError(f"{path}: {name}: are not those that the study draws")
        setting.fresh_network("check").load_state_dict(saved["state"])
        store.save(setting.key(), Original(saved["state"], saved["facts"]))
    except InputError:
        raise
    except Exception as error:  # UnpicklingError, KeyError, RuntimeError, ...
        raise InputError(f"{path}: {type(error).__name__}: {one_line(error)}") from None


def corrupted_samples(setting: Setting) -> dict[str, Any]:
    """What is saved of a corruption: `ids`, `labels`, `clean_labels`."""
    drawn = setting.draw()
    return {"ids": drawn.ids, "labels": drawn.labels, "clean_labels": drawn.clean_labels}


def save_original(path: Path, setting: Setting, original: Original) -> None:
    """One file for `torch.load(path, weights_only=True)`: `state`, `facts`, and the corruption's `ids`, `labels` and
    `clean_labels`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"state": original.state, "facts": original.facts} | corrupted_samples(setting), partial)
    partial.replace(path)


def device_name(device: str) -> str:
    """The card's name; of a CPU only that it is one."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def call_line(spec: StudySpec, setting: Setting) -> Line:
    """What the first line of a call says."""
    identity = spec.identity()
    task = {name: identity[name] for name in TASK_FIELDS}
    task["data"] = [setting.dataset.fingerprint, repr(setting.dataset.augmentation)]
    return {
        "study": spec.name,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(setting.device),
        "machine": machine(),
        "torch": torch.__version__,
        "protocol": spec.protocol,
        "precision": spec.precision,
        "task": hashlib.sha256(canonical_json(task).encode()).hexdigest()[:16],
        "code": results_fingerprint()[:16],
    }


def positive(kind: type[float] | type[int]) -> Any:
    """A number of `kind` above zero, for argparse."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number


def run(arguments: argparse.Namespace, began: float) -> int:
    """Everything the command line asks for; returns how many runs were left. Raises InputError."""
    device = arguments.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch sees no CUDA device here")
    path = find_study(arguments.study)
    study = load_study(path, tuple(arguments.set))
    if arguments.configurations is None:
        entries = defaults(study, path)
    else:
        entries = read_entries(arguments.configurations, study)
    spec = study.spec
    runs = plan(study, entries, arguments.cells, arguments.replicates or spec.budget.replicates)
    try:
        for corruption in {run.trial.cell.corruption.name: run.trial.cell.corruption for run in runs}.values():
            setting = Setting(spec, corruption, 0, device)
            setting.check()
        setting.fresh_network("check")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    file = CellsFile(arguments.out, call_line(spec, setting))
    try:
        store = OriginalStore(arguments.originals)
        ends, saved = began + arguments.deadline, (arguments.save_originals, arguments.load_originals)
        session = Session(spec, file, store, device, ends, *saved)
        return session.run_all(runs)
    finally:
        file.close()


def main(words: list[str] | None = None) -> None:
    """The command line `words`, the process's own if not given."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file, or the name of one that comes along")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline", type=positive(float), required=True, metavar="SECONDS")
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="in order of worth; default: the study's grid")
    parser.add_argument("--configurations", type=Path, metavar="FILE")
    parser.add_argument("--originals", type=Path, default=ROOT / "runs" / "originals", metavar="DIR")
    parser.add_argument("--save-originals", type=Path, metavar="DIR", help="CORRUPTION-REPLICATE.pt, for use elsewhere")
    parser.add_argument("--load-originals", type=Path, metavar="DIR", help="what --save-originals wrote elsewhere")
    parser.add_argument("--replicates", type=positive(int), metavar="N", help="default: the study's")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="key.path=value")
    arguments = parser.parse_args(words)
    try:
        left = run(arguments, began)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same call goes on", file=sys.stderr)
        sys.exit(1)
    print(f"{left} runs left: the same call goes on" if left else "all runs are done")


if __name__ == "__main__":
    main()
