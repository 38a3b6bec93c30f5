"""Everything that a study's folder holds besides its log, made from the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rem_study.report.draw import draw_report
from rem_study.results.write import write_results
from rem_study.spec import Study
from rem_study.storage import Folder, TrialKey


def write_derived(
    folder: Folder,
    study: Study,
    rows: list[dict[str, Any]],
    states: Mapping[TrialKey, str],
    run_ids: Mapping[TrialKey, str],
) -> None:
    """Write tables, best.yaml, checksums, report and figures; arguments as in `write_results`."""
    write_results(folder, study, rows, states, run_ids)
    draw_report(folder)
