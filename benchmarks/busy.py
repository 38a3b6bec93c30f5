"""How busy a finished study kept its trial slots, and the work that sharing saved it.

Busy share: the time that slots spent in originals and replicates, over slots times the span from the first start to
the last end. Work saved: sample passes with an original trained for every trial, over those really made.

    python benchmarks/busy.py runs/quickstart [--slots 2]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from common import machine

from rem_study.results.study_folder import LOG_FOLDER
from rem_study.storage.log import read_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slots", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    records, _ = read_log(arguments.folder / LOG_FOLDER)
    jobs = [r for r in records if "start_time" in r and r["kind"] in ("original", "replicate")]
    span = max(r["end_time"] for r in jobs) - min(r["start_time"] for r in jobs)
    busy = sum(r["end_time"] - r["start_time"] for r in jobs)
    trials = [r for r in jobs if r["kind"] == "replicate"]
    trained = {(r["corruption"], r["replicate"]): r["facts"]["sample_passes"] for r in jobs if "facts" in r}
    made = sum(trained.values()) + sum(r.get("sample_passes") or 0 for r in trials)
    naive = sum((r.get("sample_passes") or 0) + trained.get((r["corruption"], r["replicate"]), 0) for r in trials)
    idle = arguments.slots * span - busy
    print(machine())
    print(f"span {span / 1e3:.1f} s, {len(jobs)} jobs on {arguments.slots} slots")
    print(f"busy share {busy / (arguments.slots * span):.3f}; idle {idle / len(jobs):.0f} ms a job and slot")
    print(f"sample passes {made / 1e6:.2f} M; with an original trained for every trial {naive / 1e6:.2f} M", end="")
    print(f": {naive / made:.2f} times as much" if made else "")


if __name__ == "__main__":
    main()
