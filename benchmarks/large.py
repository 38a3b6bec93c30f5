"""What a study of 100,000 rows costs to look at, to resume and to write down.

    python benchmarks/large.py [--rows 100000] [--cells 100] [--methods 1] [--only status resume tables report optuna]

A folder is filled with a study of REM (and of as many rivals as make --methods) whose log has that many replicates, of
configurations drawn at random (nothing is searched or trained), all but the last trials of each cell. Then each of
these runs in a process of its own:

- `status`: the command `rem-study status`;
- `resume`: from the log to the plan that can hand out the next job, as `launch` and `sync` do it;
- `tables`: trials.parquet, cells.parquet and best.yaml from the log;
- `report`: report.html and figures/ from the tables (and how large report.html is);
- `optuna`: the command `rem-study export --format optuna`.

Printed: seconds of wall time and of CPU, and the process's peak memory. On a busy machine look at the CPU time.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import yaml

PARTS = ("status", "resume", "tables", "report", "optuna")
MIB = 2**20


def fill(root: Path, rows: int, cells: int, methods: int = 1) -> Path:
    """A study's folder with a log of `rows` replicates; its study has five trials a (cell, method) more."""
    from scale import NoTraining, study_document

    from rem_study.spec import load_study
    from rem_study.spec.space import FloatParameter, IntParameter, known_methods
    from rem_study.storage import StudyLog, write_atomically
    from rem_study.trial import Trial, cells_of, identity

    each = rows // (cells * methods)
    names = ["rem", *(name for name in known_methods() if name != "rem")][:methods]
    document = study_document((each + 5) * cells, cells) | {"methods": names}
    (root / "scale.yaml").write_text(yaml.safe_dump(document))
    study = load_study(root / "scale.yaml", ())
    folder = root / study.spec.name
    folder.mkdir()
    write_atomically(folder / "study.yaml", yaml.safe_dump(study.spec.plain(), sort_keys=False))
    worker = NoTraining.__new__(NoTraining)  # without a Ray actor around it
    worker._spec = study.spec
    rng = random.Random(0)

    def drawn(parameter: Any) -> Any:
        if not isinstance(parameter, FloatParameter | IntParameter):
            return rng.choice(parameter.choices)
        low, high = float(parameter.low), float(parameter.high)
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if parameter.log else rng.uniform(low, high)
        if parameter.step:
            value = low + parameter.step * int((value - low) / parameter.step)
        return int(value) if isinstance(parameter, IntParameter) else min(high, max(low, value))

    sync = os.fsync
    os.fsync = lambda fd: None  # nothing here has to outlive the machine
    log = StudyLog(folder / "log")
    now = int(time.time() * 1000) - 1000 * rows
    for number, cell, method in product(range(each), cells_of(study.spec), names):
        space = study.spaces[method]
        configuration = space.defaults
        for name, parameter in space.parameters.items():
            if number and parameter.search and space.is_active(name, configuration):
                configuration[name] = drawn(parameter)
        trial = Trial(cell, method, configuration, 0)
        row = identity(study.spec, trial, number, "search", "tpe" if number else "default") | worker.run_trial(trial)
        now += 1000
        log.append({"kind": "replicate", **row, "start_time": now - 900, "end_time": now})
    log.close()
    os.fsync = sync
    return folder


def part(name: str, folder: Path) -> None:
    """Run one of PARTS on `folder`."""
    if name in ("status", "optuna"):
        from rem_study.cli import main as command

        words = ["status", str(folder)]
        if name == "optuna":
            words = ["export", str(folder), "--format", "optuna", "-o", str(folder / "optuna.log")]
        command(words, standalone_mode=False)
        return
    from rem_study.results.study_folder import LOG_FOLDER, load_resolved

    study = load_resolved(folder)
    if name == "report":
        from rem_study.report.draw import draw_report

        draw_report(folder)
        return
    from rem_study.storage import read_history

    history = read_history(folder / LOG_FOLDER)
    if name == "resume":
        from rem_study.search.plan import GridPlan
        from rem_study.study.progress import describe

        plan = GridPlan(study, [], history.rows, history.earlier)
        print(describe(plan))
    else:
        from rem_study.results.write import write_results

        write_results(folder, study, history.rows, {}, {})


def measured(name: str, folder: Path) -> str:
    """Run one of PARTS in a process of its own: what it took."""
    began, child = time.perf_counter(), os.fork()
    if child == 0:
        command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execv(sys.executable, command)
    _, status, usage = os.wait4(child, 0)
    wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    ended = "" if status == 0 else f", exit {os.waitstatus_to_exitcode(status)}"
    size = f", report.html {(folder / 'report.html').stat().st_size / MIB:.1f} MiB" if name == "report" else ""
    return f"{name}: {wall:.1f} s, {cpu:.1f} s of CPU, {usage.ru_maxrss * 1024 / MIB:.0f} MiB{size}{ended}"


def main() -> None:
    """Fill, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=100, help="a multiple of five")
    parser.add_argument("--methods", type=int, default=1, help="REM, and the first of its rivals by name")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="a folder that is filled already, or is to be filled and kept")
    arguments = parser.parse_args()
    if arguments.part:
        part(arguments.part, arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="large-") as temporary:
        root = Path(temporary) if arguments.folder is None else arguments.folder.parent
        root.mkdir(parents=True, exist_ok=True)
        folder = arguments.folder
        if folder is None or not folder.exists():
            # In a process of its own: what this one holds, those that it measures have held too.
            with ProcessPoolExecutor(1) as pool:
                folder = pool.submit(fill, root, arguments.rows, arguments.cells, arguments.methods).result()
        size = sum(path.stat().st_size for path in (folder / "log").glob("*.jsonl"))
        print(f"{arguments.rows} rows, a log of {size / MIB:.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True)
        for name in arguments.only:
            print(measured(name, folder), flush=True)


if __name__ == "__main__":
    main()
