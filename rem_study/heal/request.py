"""`rem-study heal`: what a person asks for, from options and files; the healed checkpoint, its report and its
suspects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rem_study.errors import InputError, UnlearningError
from rem_study.heal.again import joined, read_confirmed, surest
from rem_study.heal.agreement import agreement, consensus
from rem_study.heal.checkpoint import encode_checkpoint, require_format
from rem_study.heal.choice import Attempt, Choice, OfAKind, attempts, diagnosed_attempts, load_choice_space
from rem_study.heal.diagnosis import Diagnosis, Examined, diagnose, witness
from rem_study.heal.effects import measure_effects
from rem_study.heal.healing import Healing, Say, heal, unchanged
from rem_study.heal.inputs import Case, Given, data_spec, read_case
from rem_study.heal.report import Candidate, Try, find_warnings, looks_damaged, report_facts, report_lines
from rem_study.heal.suspects import Suspects, Witness, find_suspects, suspects_csv
from rem_study.seeds import derive_seed
from rem_study.spec import Configuration
from rem_study.spec.data import OwnDataSpec
from rem_study.storage import write_atomically
from rem_study.storage.output import check_output


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
    case = _with_confirmed(request, read_case(request, data))
    examined, warnings = _examine(request, case, say)
    left_alone = examined is not None and _better_left(request, examined.diagnosis)
    if examined is not None and left_alone:
        candidates = [_left_alone(examined, case)]
        suspects = examined.diagnosis.suspects
    else:
        served = diagnosed_attempts(request, examined.diagnosis, case.recipe.optimizer) if examined else []
        try:
            candidates, suspects = _rounds(request, served or tried, case, examined, say, warnings)
        except UnlearningError as error:
            if not any(isinstance(source, OfAKind) for source, _ in served):
                raise
            warnings.append(f"{served[0][0]} broke ({error}): healed by the defaults")
            candidates, suspects = _rounds(request, tried, case, examined, say, warnings)
    kept = max(candidates, key=lambda one: one.agreement or 0.0)  # the first of equals
    told, case, healing = len(case.ids), kept.case, kept.healing
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
    asked |= {"told": told, "rounds": candidates[-1].round, "left_alone": left_alone}
    diagnosis = None if examined is None else examined.diagnosis
    effects = measure_effects(case, healing, suspects)
    facts = report_facts(asked, kept, candidates, suspects, effects, diagnosis)
    suspecting = examined.healing if examined is not None and left_alone else healing
    warnings += find_warnings(healing, suspects, suspecting)
    from rem_study.heal.page import page  # pandas and matplotlib take a second that wrong input need not wait for

    state = case.architecture.in_checkpoint(healing.network)
    for path, content in (
        (paths.output, encode_checkpoint(paths.output, case.architecture.checkpoint, state)),
        (paths.report, (json.dumps(facts, indent=2) + "\n").encode()),
        (paths.suspects, suspects_csv(suspects, case.names)),
        (paths.page, page(facts, case, suspects, effects, diagnosis, warnings).encode(errors="backslashreplace")),
    ):
        try:
            write_atomically(path, content)
        except OSError as error:
            raise InputError(f"--output: {path}: cannot be written ({error.strerror})") from None
    lines = [*(diagnosis.lines() if diagnosis else []), *report_lines(facts, kept.source)]
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


def _better_left(request: HealRequest, diagnosis: Diagnosis) -> bool:
    """Whether the network is better left as it is: there is little to heal, or what is to be run is what wrecks it."""
    return diagnosis.little_to_heal or (diagnosis.wrecked and request.is_default)


def _left_alone(examined: Examined, case: Case) -> Candidate:
    """The network as it was given, where it is better left alone."""
    return Candidate(unchanged(examined.healing, case.architecture.network), case, round=1, erasure=1)


def _rounds(
    request: HealRequest,
    tried: Sequence[Attempt],
    told: Case,
    examined: Examined | None,
    say: Say,
    warnings: list[str],
) -> tuple[list[Candidate], Suspects]:
    """Every network that is healed, round by round, with how far it agrees with all of them and with those of the
    diagnosis; and whom they suspect in the end. Each round but the first takes the surest suspects of those before for
    known, and of a handful with a trigger the first does (`begun`); one that has no network ends them, with a line in
    `warnings`. Raises UnlearningError where it is the first.
    """
    labels, known = told.dataset.train_labels.cpu(), told.ids.cpu()
    before = [] if examined is None else _heard_before(examined)
    case, candidates, own = begun(told, examined, say), list[Candidate](), list[Witness]()
    while True:
        number = candidates[-1].round + 1 if candidates else 1
        try:
            healed = _healed_alike(request, tried, case, number, say)
        except UnlearningError as error:
            if number == 1:
                raise
            warnings.append(f"round {number} broke ({error}): what is kept is of those before it")
            break
        own += [witness(one.healing, case, case.ids) for one in healed]
        candidates += healed
        suspects = find_suspects([*before, *own], labels, known, told.doubt_before)
        case = _taking(told, suspects)
        taken = len(case.ids) - len(told.ids)
        if number == request.rounds or not taken or looks_damaged(healed[0].healing, suspects):
            break
        say(f"round {number + 1} of {request.rounds}: {taken} suspects are taken for known")
    others = () if examined is None else examined.witnesses[1:]
    together = consensus([*others, *own], labels, known)
    judged = zip(candidates, own, strict=True)
    return [replace(one, agreement=agreement(said, together, labels)) for one, said in judged], suspects


def begun(told: Case, examined: Examined | None, say: Say) -> Case:
    """What the first round is told. A handful of samples with a trigger reaches few of the others or most, as a seed
    has it: where a diagnosis has counted these, its surest suspects are taken for known from the beginning."""
    if examined is None or not examined.diagnosis.counts_from_a_handful_of_poison:
        return told
    case = _taking(told, examined.diagnosis.suspects)
    if taken := len(case.ids) - len(told.ids):
        say(f"round 1: {taken} suspects of the diagnosis are taken for known")
    return case


def _taking(told: Case, suspects: Suspects) -> Case:
    """The case with its surest suspects taken for known, as many as there is room for."""
    return replace(told, ids=joined(told.ids, surest(suspects)[: told.room]))


def _healed_alike(request: HealRequest, tried: Sequence[Attempt], case: Case, number: int, say: Say) -> list[Candidate]:
    """The networks of a round: by that of `tried` which does best, and by the same with other seeds."""
    best = _heal_best(request, tried, case, number, say)
    healed = [best]
    for erasure in range(2, request.erasures + 1):
        say(f"healing with another seed: erasure {erasure} of {request.erasures}")
        seed = derive_seed("erasure", request.seed, erasure - 1)
        try:
            again = _healed(request, case, best.healing.configuration, seed)
        except UnlearningError:
            continue  # a network less
        healed.append(replace(best, healing=again, erasure=erasure))
    return healed


def _heal_best(request: HealRequest, tried: Sequence[Attempt], case: Case, number: int, say: Say) -> Candidate:
    """Run every one of `tried`: the healing with the best `score_deployable` (the first of equals). Raises
    UnlearningError if all of them broke."""
    best, chosen, tries, broken = None, None, [], UnlearningError("nothing was tried")
    for place, (source, configuration) in enumerate(tried, 1):
        say(f"healing{f', {place} of {len(tried)}' if len(tried) > 1 else ''}")
        try:
            healing = _healed(request, case, configuration, request.seed)
        except UnlearningError as error:
            broken = error
            tries.append(Try(source, configuration, None))
            continue
        tries.append(Try(source, configuration, healing.score_deployable))
        if best is None or healing.score_deployable > best.score_deployable:
            best, chosen = healing, source
    if best is None:
        raise broken
    return Candidate(best, case, number, 1, chosen, tuple(tries))


def _healed(request: HealRequest, case: Case, configuration: Configuration, seed: int) -> Healing:
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


def _heard_before(examined: Examined) -> list[Witness]:
    """What networks of the diagnosis say that were told less or more. Of a handful of samples with a trigger those told
    more are left out: they may reach less than another configuration does from the handful alone."""
    others = examined.witnesses[1:]
    if examined.diagnosis.is_handful_of_poison:
        return [one for one in others if len(one.forgot) < examined.diagnosis.known]
    return list(others)


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
