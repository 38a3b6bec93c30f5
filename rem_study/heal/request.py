"""`rem-study heal`: what a person asks for, read from options and files; the healed checkpoint and its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rem_study.data import Dataset, load_dataset
from rem_study.data.given import read_given
from rem_study.data.sources import SOURCES
from rem_study.errors import InputError, UnlearningError
from rem_study.heal.architecture import Architecture, load_architecture
from rem_study.heal.checkpoint import encode_checkpoint, read_checkpoint, require_format
from rem_study.heal.foreign import DEFAULT_GIB, check_size, check_tensors
from rem_study.heal.healing import Healing, check_configuration, heal, normalised_by
from rem_study.heal.report import Try, find_warnings, report_facts, report_lines
from rem_study.spec import Configuration, RecipeSpec, SearchSpace, load_space
from rem_study.spec.best import UNIVERSAL, Recommendation, candidates, of_cell
from rem_study.spec.corruption import GivenSpec
from rem_study.spec.data import OwnDataSpec
from rem_study.spec.yaml_file import load_yaml, read_text, validate
from rem_study.storage import write_atomically
from rem_study.storage.output import check_output


@dataclass(frozen=True)
class HealRequest:
    """The options of `rem-study heal`; `rem-study heal --help` says what each means."""

    checkpoint: Path
    model: str
    data: str
    ids: Path
    output: Path | None = None
    force: bool = False
    max_size: float = DEFAULT_GIB
    method: str = "rem"
    config: Path | None = None
    best: Path | None = None
    cell: str | None = None
    corruption: str | None = None
    discovery_rate: float | None = None
    tries: int = 1
    overrides: tuple[str, ...] = ()
    space: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: int | None = None
    rgb: bool = False
    original: str | None = None
    seed: int = 0
    device: str | None = None


@dataclass(frozen=True)
class HealOutcome:
    """What `heal_checkpoint` wrote.

    Attributes:
        output, report: the paths of the healed checkpoint and of its report.
        lines: the report for a terminal.
        warnings: what looks wrong with the input, though it could be healed.
    """

    output: Path
    report: Path
    lines: list[str]
    warnings: list[str]


def heal_checkpoint(request: HealRequest) -> HealOutcome:
    """Heal a checkpoint and write it and a report of it, each whole or not at all; the input stays as it is.

    Raises:
        InputError: anything wrong with an option or file; nothing is written then.
        UnlearningError: the method broke (a loss that is not finite); nothing is written either.
    """
    data = _data_spec(request.data)
    output, report = _destinations(request, data)
    attempts = _candidates(request)
    for path in (request.checkpoint, Path(data.root or ".")):
        check_size(path, request.max_size)
    checkpoint = read_checkpoint(request.checkpoint)
    check_tensors(request.checkpoint, checkpoint.state, request.max_size)
    dataset = _load_data(request, data)
    ids, clean_labels = _read_ids(request.ids, dataset)
    recipe = _recipe(request.original)
    architecture = load_architecture(request.model, dataset, checkpoint, request.seed)
    healing, recommendation, tries = _heal_best(request, attempts, architecture, dataset, ids, clean_labels, recipe)
    state = {architecture.prefix + name: value for name, value in healing.network.state_dict().items()}
    asked = {
        "checkpoint": str(request.checkpoint),
        "healed_checkpoint": str(output),
        "model": request.model,
        "data": request.data,
        "ids": str(request.ids),
        "method": request.method,
        "best": None if request.best is None else str(request.best),
        "overrides": list(request.overrides),
        "seed": request.seed,
    }
    facts = report_facts(asked, dataset, len(ids), recommendation, recipe, healing, tries)
    for path, content in (
        (output, encode_checkpoint(output, checkpoint, state)),
        (report, (json.dumps(facts, indent=2) + "\n").encode()),
    ):
        try:
            write_atomically(path, content)
        except OSError as error:
            raise InputError(f"--output: {path}: cannot be written ({error.strerror})") from None
    return HealOutcome(output, report, report_lines(facts, recommendation), find_warnings(healing))


def _heal_best(
    request: HealRequest,
    attempts: Sequence[tuple[Recommendation | None, Configuration]],
    architecture: Architecture,
    dataset: Dataset,
    ids: Tensor,
    clean_labels: Tensor | None,
    recipe: RecipeSpec,
) -> tuple[Healing, Recommendation | None, list[Try]]:
    """Run every one of `attempts`; the healing with the best `score_deployable` (the first of equals), what its
    configuration comes from, and how each one did. Raises UnlearningError if all of them broke."""
    best, chosen, tries, broken = None, None, [], UnlearningError("nothing was tried")
    for source, configuration in attempts:
        try:
            healing = heal(
                architecture.network,
                dataset,
                ids,
                configuration,
                method=request.method,
                space=_space(request),
                recipe=recipe,
                clean_labels=clean_labels,
                fresh_network=architecture.fresh,
                seed=request.seed,
            )
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


def _destinations(request: HealRequest, data: OwnDataSpec) -> tuple[Path, Path]:
    """Where the checkpoint and the report go. Raises InputError before any work where they cannot or must not."""
    given = request.checkpoint
    if not given.is_file():
        raise InputError(f"{given}: no such file")
    output = request.output or given.with_name(f"{given.stem}.healed{given.suffix}")
    given_files = (given, request.ids, request.config, request.best, request.space, data.root)
    read = [Path(one) for one in given_files if one]
    check_output(output, request.force, keep=read)
    report = output.with_suffix(".report.json")
    check_output(report, request.force, keep=read)
    require_format(output)
    return output, report


def _space(request: HealRequest) -> SearchSpace:
    try:
        space = load_space(request.method)
    except InputError as error:
        raise InputError(f"--method: {error}") from None
    return load_space(request.method, request.space) if request.space else space


def _candidates(request: HealRequest) -> list[tuple[Recommendation | None, Configuration]]:
    """The configurations to try, complete and within their space, each with what of best.yaml it comes from."""
    if request.config and request.best:
        raise InputError("--config: excludes --best; say one of them")
    of_nearest = request.corruption is not None or request.discovery_rate is not None
    if request.best is None and (of_nearest or request.cell is not None):
        raise InputError("--cell, --corruption, --discovery-rate: these need --best, a study's best.yaml")
    if request.cell is not None and of_nearest:
        raise InputError("--cell: excludes --corruption and --discovery-rate")
    if (request.corruption is None) != (request.discovery_rate is None):
        raise InputError("--corruption, --discovery-rate: say both or neither")
    if request.tries > 1 and not of_nearest:
        raise InputError("--tries: needs --best, --corruption and --discovery-rate, of which there are several")

    space = _space(request)
    changes = dict(_override(text) for text in request.overrides)

    def checked(given: Configuration, origin: str) -> Configuration:
        changed = {name: value for name, value in given.items() if name not in changes} | changes
        try:
            return check_configuration(request.method, changed, space)
        except InputError as error:
            origin = "--set" if str(error).partition(":")[0] in changes else origin
            raise InputError(f"{origin}: {error}") from None

    def heals(given: Configuration) -> bool:
        try:
            checked(given, "")
        except InputError:
            return False
        return True

    if request.best is not None:
        if request.corruption is not None and request.discovery_rate is not None:
            case = _number_or_name(request.corruption), request.discovery_rate
            found = candidates(request.best, *case, request.method, heals)[: request.tries]
        else:
            found = [of_cell(request.best, request.cell or UNIVERSAL, request.method)]
        return [(one, checked(one.configuration, f"{request.best}: {one.cell}")) for one in found]
    given: Any = {}
    if request.config is not None:
        given = load_yaml(read_text(request.config), str(request.config))
        if not isinstance(given, dict):
            raise InputError(f"{request.config}: must be a mapping of hyperparameters to values")
    return [(None, checked(given, str(request.config or "--set")))]


def _number_or_name(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"--set {text}: must be name=value")
    return name, load_yaml(value, f"--set {text}")


def _load_data(request: HealRequest, spec: OwnDataSpec) -> Dataset:
    device = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device: {device}: {' '.join(str(error).split())[:200]}") from None
    dataset = load_dataset(spec, device)
    if request.rgb and dataset.train_images.shape[1] == 1:
        grey = (dataset.train_images, dataset.test_images)
        train, test = (images.expand(-1, 3, -1, -1).contiguous() for images in grey)
        dataset = replace(dataset, train_images=train, test_images=test)
    if request.classes is not None:
        if request.classes < dataset.num_classes:
            raise InputError(f"--classes: {request.classes}, but the data have {dataset.num_classes}")
        dataset = replace(dataset, num_classes=request.classes)
    return _prefixed("--", lambda: normalised_by(dataset, request.mean, request.std))


def _data_spec(text: str) -> OwnDataSpec:
    """As in a study file if it is a mapping; a built-in data set by name; else a path, whose kind shows."""
    if text.lstrip().startswith("{"):
        spec = validate(OwnDataSpec, load_yaml(text, "--data"), "--data")
        if spec.train_samples or spec.test_samples:
            raise InputError("--data: train_samples, test_samples: must be left out, since ids count all images")
        return spec
    if text in SOURCES and not Path(text).exists():
        return OwnDataSpec.model_validate({"name": text})
    path = Path(text)
    if not path.exists():
        raise InputError(f"--data: {text}: no such file or folder, nor a data set by name")
    if path.is_dir():
        kind = "parquet" if (path / "train.parquet").exists() else "folder"
    elif path.suffix == ".npz":
        kind = "npz"
    else:
        raise InputError(f"--data: {text}: is neither an .npz file nor a folder")
    return OwnDataSpec.model_validate({"name": kind, "root": text})


def _read_ids(path: Path, dataset: Dataset) -> tuple[Tensor, Tensor | None]:
    try:
        return read_given(GivenSpec(name="given", file=str(path)), dataset)
    except InputError as error:
        raise InputError(str(error).replace("corruptions.given.file", "--ids", 1)) from None


def _recipe(text: str | None) -> RecipeSpec:
    recipe = RecipeSpec() if text is None else validate(RecipeSpec, load_yaml(text, "--original"), "--original")
    if recipe.kind != "standard":
        raise InputError(f"--original: kind: {recipe.kind!r} is for networks of a study; a checkpoint is standard")
    return recipe


def _prefixed(prefix: str, compute: Callable[[], Dataset]) -> Dataset:
    try:
        return compute()
    except InputError as error:
        raise InputError(f"{prefix}{error}") from None
