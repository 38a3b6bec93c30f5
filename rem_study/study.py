"""A study from the file to the picture: check it, run it or go on with it, bring MLflow level."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rem_study import __version__
from rem_study.credentials import without_credentials
from rem_study.errors import InputError, TrackingError
from rem_study.folder import Folder, ObjectPath, make_writable, storage, write_atomically
from rem_study.results import selections, write_manifest, write_results
from rem_study.rows import TrialKey, trial_key
from rem_study.spec import DataSpec, Study, load_study, read_document, resolve
from rem_study.store import StudyLog, locked, read_log
from rem_study.tracking_place import TrackingPlace, tracking_place
from rem_study.yaml_file import field_name

if TYPE_CHECKING:
    from rem_study.mlflow_runs import Selection
    from rem_study.search.plan import GridPlan
    from rem_study.search.worker import Worker

log = logging.getLogger(__name__)

LOG_FOLDER = "log"
STUDY_FILE = "study.yaml"


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        folder: the study's folder.
        done: False if it was interrupted.
        summary: for the terminal.
    """

    folder: Folder
    done: bool
    summary: str


def preflight(study: Study, origin: str) -> None:
    """Check what only the data can tell: files, class numbers, enough samples, layer positions.

    Raises:
        InputError: naming file and field.
    """
    from rem_study.originals import Setting

    mistakes = []
    try:
        for corruption in study.spec.corruptions:
            setting = Setting(study.spec, corruption, 0)
            drawn = setting.check()
            if drawn.clean_labels is None and study.spec.objective == "score_oracle":
                mistakes.append(
                    f"{origin}: objective: score_oracle needs clean labels, corruptions.{corruption.name} has none; "
                    "score_deployable needs none"
                )
        mistakes += _misfits(study, origin, setting.fresh_network("preflight"))
    except InputError as error:
        mistakes.append(f"{origin}: {error}")
    if mistakes:
        raise InputError("\n".join(mistakes))


def preflight_without_data(study: Study, origin: str) -> None:
    """Check what does not take the data themselves, which lie elsewhere: the network, layer positions.

    Raises:
        InputError: naming file and field.
    """
    from rem_study.originals import Setting

    data = study.spec.data
    known_size = data.image_size or _IMAGE_SIZES.get(data.name)
    stand_in = study.spec.model_copy(update={"data": DataSpec(image_size=known_size or 64)})
    try:
        network = Setting(stand_in, stand_in.corruptions[0], 0).fresh_network("preflight")
        mistakes = _misfits(study, origin, network)
    except InputError as error:
        mistakes = [f"{origin}: {error}"] if known_size else []  # images of their own size may fit
    if data.root is None and data.name != "digits":
        mistakes.append(f"{origin}: data.root: {data.name} needs a path")
    if mistakes:
        raise InputError("\n".join(mistakes))


_IMAGE_SIZES = {"digits": 16, "fashion_mnist": 28, "cifar10": 32, "svhn": 32}


def _misfits(study: Study, origin: str, network: Any) -> list[str]:
    """What the methods ask for and this network, or the original, does not have."""
    from rem_study.models.site import select_sites
    from rem_study.unlearning import needed_original

    mistakes = []
    for method, space in study.spaces.items():
        needed = needed_original(method)
        if needed not in (None, study.spec.original.kind):
            mistakes.append(f"{origin}: methods.{method}: needs original.kind: {needed}")
        position = space.parameters.get("layer_position")
        for choice in [] if position is None else [position.default, *getattr(position, "choices", [])]:
            try:
                select_sites(network.sites(), str(choice))
            except InputError as error:
                mistakes.append(f"{origin}: methods.{method}: {error}")
    return mistakes


def launch(
    path: Path,
    root: Folder,
    name: str | None = None,
    address: str | None = None,
    overrides: tuple[str, ...] = (),
    worker: type[Worker] | None = None,
) -> Outcome:
    """Run the study file at `path` in `root`, or go on with it where it was left.

    Args:
        name: of the study and its folder; default: the study file's.
        address: of a Ray cluster; default: a local one, for this launch.
        overrides: `key.path=value`, as on the command line.
        worker: what runs in the actors; default: `rem_study.search.worker.Worker`, which trains and unlearns.

    Raises:
        InputError: the input is wrong, or the folder holds another study; nothing has been started then.
        StorageError: the folder cannot be written any more; launching again goes on from its log.
        ClusterError: Ray does not start, or its workers do not.
    """
    study = load_study(path, overrides, name)
    folder = root / study.spec.name
    if isinstance(root, ObjectPath) and root.scheme == "memory":
        raise InputError(f"--root: {root} would be seen by this process alone, not by the workers")
    make_writable(root)
    preflight(study, str(path))
    make_writable(folder)
    with locked(folder), storage(folder):
        _claim(folder, study)
        with tracking_place(study, folder) as place:
            return _run(study, folder, root / "originals", place, address, worker)


def _claim(folder: Folder, study: Study) -> None:
    """Write study.yaml, or check that what stands there is the same study."""
    path = folder / STUDY_FILE
    if path.exists():
        differences = _differences(load_resolved(folder).spec.identity(), study.spec.identity())
        if differences:
            raise InputError(
                f"{folder}: holds another study; it differs in {', '.join(differences)}; "
                "choose another --name, or remove the folder"
            )
    content = study.spec.plain()
    if study.spec.tracking.uri is not None:
        content["tracking"]["uri"] = without_credentials(study.spec.tracking.uri)
    write_atomically(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _differences(before: Any, after: Any, prefix: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [d for k in keys for d in _differences(before.get(k), after.get(k), f"{prefix}{k}.")]
    return [] if before == after else [prefix.rstrip(".")]


def load_resolved(folder: Folder) -> Study:
    """The study that a folder holds, as it was resolved when it was first launched. Raises InputError."""
    path = folder / STUDY_FILE
    if not path.is_file():
        raise InputError(f"{folder}: is not a study's folder (it has no {STUDY_FILE})")
    document = read_document(path)
    methods = document.get("methods")
    for method, given in methods.items() if isinstance(methods, dict) else ():
        if isinstance(given, dict) and isinstance(given.get("space"), str):  # no path leads out of the folder
            raise InputError(f"{path}: methods.{field_name(method)}.space: must be written out, not a path")
    if isinstance(document.get("warm_start"), str):
        raise InputError(f"{path}: warm_start: must be written out, not a path")
    return resolve(document, str(path), folder)


def _run(
    study: Study,
    folder: Folder,
    originals: Folder,
    place: TrackingPlace,
    address: str | None,
    worker: type[Worker] | None,
) -> Outcome:
    from rem_study.originals import OriginalStore, Setting
    from rem_study.progress import ProgressLine, describe
    from rem_study.search.plan import GridPlan, OriginalJob
    from rem_study.tracking_process import TrackingProcess

    started = time.time()
    records, damaged = read_log(folder / LOG_FOLDER)
    for line in damaged:
        print(f"warning: {line}", file=sys.stderr)
    rows = replicate_rows(records)
    basis = _basis(study)
    known = next((record["content"] for record in records if record["kind"] == "basis"), basis)
    if changed := [name for name in basis if known.get(name) != basis[name]]:
        raise InputError(
            f"{folder}: its trials stand on other {' and '.join(changed)} than is there now; choose another --name"
        )
    trained = [record for record in records if record["kind"] == "original"]
    has_basis = any(record["kind"] == "basis" for record in records)
    store = OriginalStore(originals)
    stored = [
        OriginalJob(corruption.name, replicate)
        for corruption in study.spec.corruptions
        for replicate in range(study.spec.budget.replicates + study.spec.confirm.replicates)
        if store.has(Setting(study.spec, corruption, replicate).key())
    ]
    plan = GridPlan(study, stored, rows)
    if plan.finished:
        print(f"resuming {folder}: {describe(plan)}", file=sys.stderr)
    study_log = StudyLog(folder / LOG_FOLDER)
    if not has_basis:
        study_log.append({"kind": "basis", "content": basis})
    noted = {trial_key(record) for record in records if record["kind"] == "pruned"}
    del records
    with TrackingProcess(place.uri, study.spec.name, study_tags=_STUDY_TAGS) as tracking:
        for row in rows:  # what an interrupted launch left unwritten; what is there already is not written twice
            tracking.record(row)

        def settled(key: TrialKey, state: str) -> None:
            if state == "pruned" and key not in noted:  # for `status`, which cannot know it from the replicates
                names = ("cell", "method", "phase", "trial")
                study_log.append({"kind": "pruned", **dict(zip(names, key, strict=True))})
            tracking.finish(key, state)

        for key, state in finished_trials(plan, rows).items():
            settled(key, state)
        plan.settled = settled
        progress = ProgressLine(plan)

        def record(entry: dict[str, Any]) -> None:
            study_log.append(entry)
            if entry["kind"] == "original":
                trained.append(entry)
            else:
                row = _row(entry)
                rows.append(row)
                tracking.record(row)
            progress.update()

        try:
            if not plan.done():
                from rem_study.search.run import connected, run_grid
                from rem_study.search.worker import Worker

                with connected(address, keep_logs=lambda: plan.failed > 0):
                    progress.update()
                    run_grid(plan, originals, record, worker or Worker)
        finally:
            progress.close()
            study_log.close()
        tracking.drain()
        write_manifest(folder, study, started, trained)
        if rows:
            write_results(folder, study, rows, finished_trials(plan, rows), tracking.run_ids())
            tracking.highlight(selections(folder, rows))
        if plan.done():
            tracking.artifacts(place.artifacts())
        tracking.finish_study("FINISHED" if plan.done() else "KILLED")
        if not tracking.close():
            print(
                f"warning: MLflow lacks {tracking.unwritten} records; `rem-study sync {folder}` writes them",
                file=sys.stderr,
            )
    summary = describe(plan)
    if hopeless := plan.hopeless():
        summary += "; every trial failed in " + ", ".join(f"{cell} ({method})" for cell, method in hopeless)
    return Outcome(folder, plan.done(), summary)


def _basis(study: Study) -> dict[str, str]:
    """Hashes of what results depend on and the study file does not hold."""
    from rem_study.given import fingerprint
    from rem_study.originals import Setting, results_fingerprint

    spec = study.spec
    ids = {f"ids of corruptions.{c.name}": hash_ for c in spec.corruptions if (hash_ := fingerprint(c))}
    return {
        "data": Setting(spec, spec.corruptions[0], 0).dataset.fingerprint,
        **ids,
        "code (rem_study)": results_fingerprint(),
    }


def finished_trials(plan: GridPlan, rows: Iterable[dict[str, Any]]) -> dict[TrialKey, str]:
    """How each trial among `rows` that is through has ended."""
    keys = set(map(trial_key, rows))
    return {key: state for key in sorted(keys) if (state := plan.state(key))}


def replicate_rows(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log's replicates, each once (the first record counts), in the order in which they finished."""
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        if record["kind"] == "replicate":
            key = tuple(record[name] for name in ("cell", "method", "trial", "phase", "replicate"))
            unique.setdefault(key, _row(record))
    return list(unique.values())


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "kind"}


def sync(folder: Folder) -> int:
    """Bring MLflow, the tables and the report level with the log in `folder`.

    Returns:
        how many replicates were missing in MLflow.

    Raises:
        InputError: not a study's folder, or a launch of it is running.
        TrackingError: MLflow cannot be written; the tables have been, without its run ids.
        StorageError: the folder cannot be written.
    """
    from rem_study.search.plan import GridPlan
    from rem_study.tracking import sync as write

    study = load_resolved(folder)
    with locked(folder), storage(folder), tracking_place(study, folder) as place:
        records, damaged = read_log(folder / LOG_FOLDER)
        for line in damaged:
            print(f"warning: {line}", file=sys.stderr)
        rows = replicate_rows(records)
        plan = GridPlan(study, [], rows)
        states = finished_trials(plan, rows)
        derived = False

        def derive(run_ids: dict[TrialKey, str]) -> tuple[list[Selection], list[Path]]:
            nonlocal derived
            if rows and not derived:
                write_results(folder, study, rows, states, run_ids)
            derived = True
            return selections(folder, rows) if rows else [], place.artifacts() if plan.done() else []

        try:
            return write(
                place.uri,
                study.spec.name,
                rows,
                states=states,
                study_tags=_STUDY_TAGS,
                derived=derive,
                status="FINISHED" if plan.done() else "KILLED",
            )
        except TrackingError:
            derive({})
            raise


_STUDY_TAGS = {"rem_study.version": __version__}
