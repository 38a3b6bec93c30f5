"""`rem-study heal`: what a person asks for, from options and files; the healed checkpoint, its report and its
suspects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rem_study.errors import InputError, UnlearningError
from rem_study.heal.again import joined, read_confirmed, surest
from rem_study.heal.checkpoint import encode_checkpoint, require_format
from rem_study.heal.choice import Attempt, Choice, attempts, diagnosed_attempts, load_choice_space
from rem_study.heal.diagnosis import Examined, diagnose, witness
from rem_study.heal.effects import measure_effects
from rem_study.heal.healing import Healing, heal, unchanged
from rem_study.heal.inputs import Case, Given, data_spec, read_case
from rem_study.heal.report import Try, find_warnings, report_facts, report_lines
from rem_study.heal.suspects import Suspects, Witness, find_suspects, suspects_csv
from rem_study.seeds import derive_seed
from rem_study.spec.best import Recommendation
from rem_study.spec.data import OwnDataSpec
from rem_study.storage import write_atomically
from rem_study.storage.output import check_output

Say = Callable[[str], None]
"""Told of each step as it begins."""


@dataclass(frozen=True)
class HealRequest(Choice, Given):
    """The options of `rem-study heal`; `rem-study heal --help` says what each means."""

    output: Path | None = None
    diagnosis: bool = True
    erasures: int = 2
    again: Path | None = None
    top: int | None = None
    rounds: int = 2
    force: bool = False


@dataclass(frozen=True)
class HealOutcome:
    """What `heal_checkpoint` wrote.

    Attributes:
        output, report, page, suspects: the paths of the healed checkpoint, of its report as JSON and as HTML, and of
            the list of samples.
        lines: the report for a terminal.
        notes: what was taken otherwise than it stands in the files, or left aside.
        warnings: what looks wrong with the input, though it could be healed.
    """

    output: Path
    report: Path
    page: Path
    suspects: Path
    lines: list[str]
    warnings: list[str]
    notes: list[str]


def heal_checkpoint(request: HealRequest, say: Say = lambda line: None) -> HealOutcome:
    """Heal a checkpoint and write it, a report of it and the list of suspects, each whole or not at all; the input
    stays as it is.

    Raises:
        InputError: anything wrong with an option or file; nothing is written then.
        UnlearningError: the method broke (a loss that is not finite); nothing is written either.
    """
    data = data_spec(request.data)
    paths = _destinations(request, data)
    tried = attempts(request)
    told = case = _with_confirmed(request, read_case(request, data))
    examined, why_not = _examine(request, case, say)
    if examined is not None:
        tried = diagnosed_attempts(request, examined.diagnosis) or tried
    healing, recommendation, tries = _heal_best(request, tried, case, examined, say)
    heard = [] if examined is None else _heard_before(examined, healing)
    suspects = _find_suspects(request, told, case, healing, examined, heard, say)
    rounds = 1
    little = examined is not None and examined.diagnosis.little_to_heal
    while rounds < request.rounds and not little and suspects.believable and len(more := surest(suspects)):
        rounds += 1
        say(f"round {rounds} of {request.rounds}: {len(more)} suspects are taken for known")
        case = replace(told, ids=joined(told.ids, more))
        healing, recommendation, tries = _heal_best(request, tried, case, None, say)
        suspects = _find_suspects(request, told, case, healing, examined, heard, say)
    asked = {
        "checkpoint": str(request.checkpoint),
        "healed_checkpoint": str(paths.output),
        "model": request.model,
        "data": request.data,
        "ids": str(request.ids),
        "method": request.method,
        "best": None if request.best is None else str(request.best),
        "overrides": list(request.overrides),
        "seed": request.seed,
    }
    asked |= {"told": len(told.ids), "rounds": rounds}
    diagnosis = None if examined is None else examined.diagnosis
    effects = measure_effects(case, healing, suspects)
    facts = report_facts(asked, case, recommendation, healing, tries, suspects, effects, diagnosis)
    from rem_study.heal.page import page  # pandas and matplotlib take a second that wrong input need not wait for

    state = case.architecture.in_checkpoint(healing.network)
    for path, content in (
        (paths.output, encode_checkpoint(paths.output, case.architecture.checkpoint, state)),
        (paths.report, (json.dumps(facts, indent=2) + "\n").encode()),
        (paths.suspects, suspects_csv(suspects, case.names)),
        (paths.page, page(facts, case, suspects, effects, diagnosis).encode(errors="backslashreplace")),
    ):
        try:
            write_atomically(path, content)
        except OSError as error:
            raise InputError(f"--output: {path}: cannot be written ({error.strerror})") from None
    lines = [*(diagnosis.lines() if diagnosis else []), *report_lines(facts, recommendation)]
    warnings = [*why_not, *find_warnings(healing, suspects)]
    return HealOutcome(paths.output, paths.report, paths.page, paths.suspects, lines, warnings, list(case.notes))


def _with_confirmed(request: HealRequest, case: Case) -> Case:
    """The case, with what a list of suspects confirms."""
    if request.again is None:
        if request.top is not None:
            raise InputError("--top: needs --again, a list of suspects")
        return case
    more = read_confirmed(request.again, request.top, case.names.places(len(case.dataset.train_labels)))
    return replace(case, ids=joined(case.ids, more))


def _examine(request: HealRequest, case: Case, say: Say) -> tuple[Examined | None, list[str]]:
    """The diagnosis, where one is wanted and can be made, and why it could not."""
    if not (request.diagnosis and request.is_open):
        return None, []
    try:
        return diagnose(case, say=say), []
    except (InputError, UnlearningError) as error:
        return None, [f"no diagnosis: {error}"]


def _heal_best(
    request: HealRequest, tried: Sequence[Attempt], case: Case, examined: Examined | None, say: Say
) -> tuple[Healing, Recommendation | None, list[Try]]:
    """Run every one of `tried`; the healing with the best `score_deployable` (the first of equals), what its
    configuration comes from, and how each one did. Where there is little to heal, nothing is changed. Raises
    UnlearningError if all of them broke."""
    if examined is not None and examined.diagnosis.little_to_heal:
        return unchanged(examined.healing, case.architecture.network), None, []
    best, chosen, tries, broken = None, None, [], UnlearningError("nothing was tried")
    for number, (source, configuration) in enumerate(tried, 1):
        say(f"healing{f', {number} of {len(tried)}' if len(tried) > 1 else ''}")
        try:
            healing = _healed(request, case, examined, configuration, request.seed)
        except UnlearningError as error:
            broken = error
            tries.append(Try(source, configuration, None))
            continue
        tries.append(Try(source, configuration, healing.score_deployable))
        if best is None or healing.score_deployable > best.score_deployable:
            best, chosen = healing, source
    if best is None:
        raise broken
    return best, chosen, tries


def _healed(request: HealRequest, case: Case, examined: Examined | None, configuration: dict, seed: int) -> Healing:
    done = None if examined is None else examined.healing
    if done is not None and (request.method, configuration, seed) == ("rem", done.configuration, case.seed):
        return done  # the diagnosis has run it
    return heal(
        case.architecture.network,
        case.dataset,
        case.ids,
        configuration,
        method=request.method,
        space=load_choice_space(request),
        recipe=case.recipe,
        clean_labels=case.clean_labels,
        fresh_network=case.architecture.fresh,
        seed=seed,
    )


def _heard_before(examined: Examined, healing: Healing) -> list[Witness]:
    """What networks of the diagnosis say that were told less or more. Of a handful of samples with a trigger, those
    told more by REM's defaults reach less than another configuration does from the handful alone."""
    others = examined.witnesses[1:]
    if examined.diagnosis.is_handful_of_poison and healing.configuration != examined.healing.configuration:
        return [one for one in others if len(one.forgot) < examined.diagnosis.known]
    return list(others)


def _find_suspects(
    request: HealRequest,
    told: Case,
    case: Case,
    healing: Healing,
    examined: Examined | None,
    heard: list[Witness],
    say: Say,
) -> Suspects:
    """By the healed network, by others that differ from it in their seed alone, and by those `heard` before, which were
    not told of all that these were told; the new ones are added to them. `told` is the case as it was given, `case` the
    one that was healed, in which suspects may be known too."""
    if examined is not None and examined.diagnosis.little_to_heal:
        return examined.diagnosis.suspects
    heard.append(witness(healing, case, case.ids))
    for number in range(1, request.erasures):
        say(f"looking for suspects: erasure {number + 1} of {request.erasures}")
        seed = derive_seed("erasure", request.seed, number)
        try:
            again = _healed(request, case, None, healing.configuration, seed)
        except UnlearningError:
            continue  # a witness less
        heard.append(witness(again, case, case.ids))
    return find_suspects(heard, told.dataset.train_labels, told.ids, told.doubt_before)


@dataclass(frozen=True)
class _Paths:
    output: Path
    report: Path
    suspects: Path
    page: Path


def _destinations(request: HealRequest, data: OwnDataSpec) -> _Paths:
    """Where the files go. Raises InputError before any work where they cannot or must not."""
    given = request.checkpoint
    if not given.is_file():
        raise InputError(f"{given}: no such file")
    output = request.output or given.with_name(f"{given.stem}.healed{given.suffix}")
    given_files = (given, request.ids, request.config, request.best, request.space, data.root, request.again)
    read = [Path(one) for one in given_files if one]
    check_output(output, request.force, keep=read)  # before its name is taken apart: a folder like `.` has none
    beside = [output.with_suffix(suffix) for suffix in (".report.json", ".suspects.csv", ".report.html")]
    for path in beside:
        check_output(path, request.force, keep=read)
    require_format(output)
    return _Paths(output, *beside)
