"""`rem-study diagnose`: where a user's case lies, and which configuration of a best.yaml serves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rem_study.heal.choice import Choice, attempts, diagnosed_attempts
from rem_study.heal.diagnosis import diagnose
from rem_study.heal.healing import Say
from rem_study.heal.inputs import Given, data_spec, read_case


@dataclass(frozen=True)
class DiagnoseRequest(Given):
    """The options of `rem-study diagnose`; `rem-study diagnose --help` says what each means."""

    method: str = "rem"
    best: Path | None = None


def diagnose_checkpoint(request: DiagnoseRequest, say: Say = lambda line: None) -> list[str]:
    """The diagnosis and, with a best.yaml, the configuration that `heal` would use, one line each.

    Raises:
        InputError: anything wrong with an option or file, or the case cannot be diagnosed at all (see `diagnose`).
        UnlearningError: healing broke (a loss that is not finite).
    """
    choice = Choice(method=request.method, best=request.best)
    otherwise = attempts(choice)
    case = read_case(request, data_spec(request.data))
    diagnosis = diagnose(case, say=say).diagnosis
    lines = [*(f"note: {note}" for note in case.notes), *diagnosis.lines()]
    if request.best is not None and not diagnosis.little_to_heal:
        source, _ = (diagnosed_attempts(choice, diagnosis, case.recipe.optimizer) or otherwise)[0]
        lines.append(f"what serves it                       {source}")
    return lines
