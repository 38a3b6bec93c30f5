"""The study file: everything a user may say about a study, checked once at the border."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from rem_study.corruption_spec import CorruptionSpec, GivenSpec
from rem_study.errors import InputError
from rem_study.folder import Folder
from rem_study.frozen import Frozen, Int, LocalPath, NotNegative, PositiveFloat, PositiveInt, Share
from rem_study.space import Configuration, SearchSpace, load_space
from rem_study.yaml_file import field_name, load_yaml, one_line, read_text, validate


class DataSpec(Frozen):
    """Which images, at which size, and how many of them.

    `as_is`: a user's own images may have any shape, and need no test part.
    """

    as_is: ClassVar[bool] = False
    name: Literal["digits", "fashion_mnist", "cifar10", "svhn", "folder", "npz", "parquet"] = "digits"
    root: LocalPath | None = Field(
        None,
        description="relative to the working directory. fashion_mnist, cifar10, svhn: folder of torchvision's files; "
        "folder: one with train/CLASS/*.png and test/CLASS/*.png; npz: a file with train_images, train_labels, "
        "test_images, test_labels; parquet: folder of train.parquet and test.parquet (image, label); digits need none",
    )
    download: bool = Field(False, description="let torchvision fetch what is missing under root")
    image_size: Annotated[int, Field(ge=12, le=1024)] | None = Field(
        None, description="pixels a side; default: the data set's"
    )
    train_samples: PositiveInt | None = Field(None, description="a fixed random part of the training images")
    test_samples: PositiveInt | None = Field(None, description="a fixed random part of the test images")
    augment: bool | None = Field(None, description="random crops (and flips where they suit); default: the data set's")


class OwnDataSpec(DataSpec):
    """The images that a user's own model was trained on, as they are."""

    as_is: ClassVar[bool] = True


Width = Annotated[float, Field(gt=0, le=16)]


class ResNet9Spec(Frozen):
    """The paper's convolutional network."""

    name: Literal["resnet9"] = "resnet9"
    width: Width = Field(1.0, description="multiplies every layer's channels")


class VitSpec(Frozen):
    """The paper's transformer, for small images."""

    name: Literal["vit"]
    width: Width = Field(1.0, description="multiplies features (512), hidden units (1,536) and heads (8)")
    depth: Annotated[int, Field(gt=0, le=256)] = Field(4, description="blocks")
    patch_size: PositiveInt = Field(8, description="pixels a side; it divides the image size")


class TorchvisionSpec(Frozen):
    """One of torchvision's classifiers, newly initialised."""

    name: Annotated[str, Field(pattern=r"^torchvision/\w+$")]
    small_input: bool | None = Field(
        None,
        description="a ResNet's stem for images up to 64 pixels (3x3, stride 1, no pooling); default: ResNets have it",
    )


def _model_kind(value: Any) -> str | None:
    name = value.get("name", "resnet9") if isinstance(value, dict) else getattr(value, "name", None)
    if isinstance(name, str) and name.startswith("torchvision/"):
        return "<torchvision>"
    return f"<{name}>" if name in ("resnet9", "vit") else None


ModelSpec = Annotated[
    Annotated[ResNet9Spec, Tag("<resnet9>")]
    | Annotated[VitSpec, Tag("<vit>")]
    | Annotated[TorchvisionSpec, Tag("<torchvision>")],
    Discriminator(
        _model_kind,
        custom_error_type="model_name",
        custom_error_message="must be a mapping whose name is resnet9, vit or torchvision/NAME",
    ),
]


Precision = Literal["float32", "bfloat16"]


class RecipeSpec(Frozen):
    """How the original is trained; `retrain` uses it again."""

    kind: Literal["standard", "etd", "half_capacity"] = "standard"
    optimizer: Literal["sgd", "adam"] = "sgd"
    epochs: PositiveInt = 40
    batch_size: Annotated[int, Field(ge=2, le=1_000_000_000)] = 512
    lr: PositiveFloat = 0.025
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    warmup: Share = Field(0.01, description="share of the steps in which the learning rate rises")
    final_lr: Annotated[float, Field(ge=0, le=1)] = Field(0.2, description="learning rate at the end / at its top")


class EtdRecipeSpec(RecipeSpec):
    """With example-tied dropout: of each site's channels the first are always on, each other one for a share of the
    samples, fixed by their ids (Maini et al. 2023)."""

    kind: Literal["etd"]
    p_gen: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="share of the channels that is always on")
    p_mem: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of the samples each other one is on for")


class HalfCapacityRecipeSpec(RecipeSpec):
    """At half capacity: the second half of each site's channels is silent; REM wakes it (the released code)."""

    kind: Literal["half_capacity"]


def _original_kind(value: Any) -> str | None:
    kind = value.get("kind", "standard") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"<{kind}>" if kind in ("standard", "etd", "half_capacity") else None


OriginalSpec = Annotated[
    Annotated[RecipeSpec, Tag("<standard>")]
    | Annotated[EtdRecipeSpec, Tag("<etd>")]
    | Annotated[HalfCapacityRecipeSpec, Tag("<half_capacity>")],
    Discriminator(
        _original_kind,
        custom_error_type="original_kind",
        custom_error_message="must be a mapping whose kind is standard, etd or half_capacity",
    ),
]


PathOrSpace = Annotated[
    Annotated[str, Field(min_length=1), Tag("<path>")] | Annotated[SearchSpace, Tag("<inline>")],
    Discriminator(lambda value: "<path>" if isinstance(value, str) else "<inline>"),
]


class StartSpec(Frozen):
    """A configuration to begin with, and where it comes from."""

    source: str = Field(description="the cell of another study, or universal")
    config: Configuration


PathOrStarts = Annotated[
    Annotated[str, Field(min_length=1), Tag("<path>")]
    | Annotated[dict[str, dict[str, Annotated[tuple[StartSpec, ...], Field(strict=False)]]], Tag("<mapping>")],
    Discriminator(lambda value: "<path>" if isinstance(value, str) else "<mapping>"),
]


class MethodSpec(Frozen):
    """What a study says of one method."""

    space: PathOrSpace | None = Field(
        None,
        description="the user's own search space: a path, relative to the study file, or the space itself",
    )
    trials: PositiveInt | None = Field(None, description="trials a cell; default: budget.trials")
    ranges: dict[str, dict[str, Any]] = Field(
        {}, description="other low, high, choices, default, search (whether it is searched), ... of hyperparameters"
    )
    fixed: dict[str, bool | int | float | str] = Field({}, description="hyperparameters held at a value")
    defaults: dict[str, bool | int | float | str] = Field({}, description="other values for trial 0")


class BudgetSpec(Frozen):
    """What each (cell, method) may spend."""

    trials: PositiveInt = 8
    replicates: PositiveInt = 1
    in_flight: PositiveInt = Field(1, description="trials of one (cell, method) that may run at once")
    sample_passes: PositiveInt | None = Field(
        None,
        description="samples taken forward and backward that one (cell, method) may spend on its search: no new trial "
        "is begun once they are spent, and trials is then the most that it may try; default: no limit",
    )


class SamplerSpec(Frozen):
    """Optuna's sampler for each (cell, method).

    `nsga2` searches for the front of the objective's two factors (`score_healed`, `score_utility`); what is selected in
    the end is the trial with the best objective all the same.
    """

    name: Literal["tpe", "gp", "random", "qmc", "nsga2"] = "tpe"
    startup_trials: PositiveInt = Field(
        4, description="trials before tpe and gp model anything (the default is one of them); nsga2: its population"
    )


class PrunerSpec(Frozen):
    """Optuna's pruner: whether a trial is given up before its last replicate, for what its first ones gave.

    A trial is compared within its own cell and method, and with those results only that its suggestion could see. Not
    for `sampler: {name: gp}`, which learns from whole trials only: pruned, it finds less than random search
    (docs/search.md).
    """

    name: Literal["none", "median", "percentile", "wilcoxon"] = "none"
    startup_trials: PositiveInt = Field(4, description="whole trials that median and percentile need to compare with")
    percentile: Annotated[float, Field(gt=0, lt=100)] = Field(
        25.0, description="percentile: a trial goes on while it is among so many percent of the best; median: 50"
    )
    p_threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="wilcoxon: one-sided p below which a trial counts as worse than the best one"
    )


class NeighboursSpec(Frozen):
    """Transfer: what the adjacent cells found first is tried early in each cell."""

    from_trial: PositiveInt | None = Field(
        None,
        description="the best configuration of each adjacent cell's first from_trial trials is tried here from trial "
        "from_trial on (lower and higher discovery rate, lower and higher regularity); default: none is",
    )


class ConfirmSpec(Frozen):
    """Fresh replicates for the selected configurations and the default, which no search has seen."""

    replicates: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0, description="how many; 2 or more give intervals; 0: none"
    )
    top: PositiveInt = Field(1, description="how many of each (cell, method)'s best configurations are confirmed")
    everywhere: bool = Field(
        False, description="also run what is confirmed in one cell in all the others, for the universal configuration"
    )

    @model_validator(mode="after")
    def _somewhere(self) -> ConfirmSpec:
        if self.everywhere and not self.replicates:
            raise ValueError("everywhere: needs replicates of 1 or more")
        return self


class ResourcesSpec(Frozen):
    """What one trial gets. These never change a result, except that a trial which reaches the time limit has failed."""

    cpus: PositiveInt = 1
    gpus: NotNegative = 0
    concurrent: PositiveInt | None = Field(
        None,
        description="trials at once; default: what the cluster holds at the start, which is too few where workers are "
        "added on demand",
    )

    time_limit: PositiveInt = Field(
        86_400,
        description="seconds for one replicate, or for training one original; one that takes longer is ended and has "
        "failed. A guard against what hangs: set it far above what the slowest needs",
    )


class TrackingSpec(Frozen):
    """Where MLflow's runs go."""

    uri: Annotated[str, Field(pattern=r"^(databricks|[A-Za-z][A-Za-z0-9+.-]*:\S+)$")] | None = Field(
        None, description="an MLflow tracking server or database; default: mlflow.db in the study's folder"
    )


def _as_mapping(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError("one is listed twice")
        return {name: {} for name in value}
    return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value


DiscoveryRate = Annotated[float, Field(gt=0, le=1)]
EXECUTION_FIELDS = ("resources", "tracking")


class StudySpec(Frozen):
    """One study: the grid, the methods, the budget."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    data: DataSpec = DataSpec()
    model: ModelSpec = ResNet9Spec()
    original: OriginalSpec = RecipeSpec()
    precision: Precision = Field(
        "float32",
        description="bfloat16: convolutions and matrix products in bfloat16, by PyTorch's automatic mixed precision; "
        "for originals and trials alike",
    )
    corruptions: Annotated[tuple[CorruptionSpec, ...], Field(min_length=1, strict=False)]
    discovery_rates: Annotated[tuple[DiscoveryRate, ...], Field(min_length=1, strict=False)]
    methods: Annotated[dict[str, MethodSpec], BeforeValidator(_as_mapping), Field(min_length=1)]
    objective: Literal["score_oracle", "score_deployable"] = "score_oracle"
    max_utility_loss: Share | None = Field(
        None,
        description="a replicate whose utility (selection split) lies more than this below its original's scores 0, so "
        "that what costs too much is not selected; score_oracle only",
    )
    protocol: Literal["honest", "paper"] = Field(
        "honest",
        description="honest: chosen on one half of the corrupted samples and test images, reported on the other; "
        "paper: chosen and reported on all of them",
    )
    budget: BudgetSpec = BudgetSpec()
    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    neighbours: NeighboursSpec = NeighboursSpec()
    confirm: ConfirmSpec = ConfirmSpec()
    warm_start: PathOrStarts | None = Field(
        None,
        description="another study's best.yaml, relative to the study file: the configurations of its nearest cell and "
        "for its whole grid are tried right after the default; written out by method and cell in the study's folder",
    )
    resources: ResourcesSpec = ResourcesSpec()
    seed: Int = 0
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _no_repetition(self) -> StudySpec:
        names = [corruption.name for corruption in self.corruptions]
        rates = [cell_name("", rate) for rate in self.discovery_rates]  # two that a cell's name does not tell apart
        for field, values in (("corruptions", names), ("discovery_rates", rates)):
            if len(set(values)) < len(values):
                raise ValueError(f"{field}: one is listed twice")
        return self

    @model_validator(mode="after")
    def _folder_of_its_own(self) -> StudySpec:
        if self.name == "originals":
            raise ValueError("name: 'originals' is the folder that all studies of a root share")
        return self

    @model_validator(mode="after")
    def _ids_of_all_training_images(self) -> StudySpec:
        if self.data.train_samples and any(isinstance(corruption, GivenSpec) for corruption in self.corruptions):
            raise ValueError("data.train_samples: must be left out, since given ids count all training images")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> StudySpec:
        if self.max_utility_loss is not None and self.objective != "score_oracle":
            raise ValueError("max_utility_loss: needs objective score_oracle, which has the utility that it bounds")
        if self.max_utility_loss is not None and self.sampler.name == "nsga2":
            raise ValueError("max_utility_loss: nsga2 searches by healed and utility apart, not by the score")
        return self

    @model_validator(mode="after")
    def _prunable(self) -> StudySpec:
        if self.pruner.name != "none" and self.sampler.name == "nsga2":
            raise ValueError("pruner.name: nsga2 has two objectives, and Optuna prunes with one only")
        if self.pruner.name != "none" and self.budget.replicates == 1:
            raise ValueError("pruner.name: a trial of one replicate (budget.replicates) has nothing to stop before")
        return self

    def plain(self) -> dict[str, Any]:
        """The study as plain values, fit for a YAML file that `load_study` reads again."""
        plain = self.model_dump(mode="json")
        for method, method_spec in self.methods.items():
            if isinstance(method_spec.space, SearchSpace):
                plain["methods"][method]["space"] = method_spec.space.model_dump(mode="json", exclude_defaults=True)
        return plain

    def identity(self) -> dict[str, Any]:
        """The study as plain values, less what cannot change a result (resources, tracking)."""
        return {name: value for name, value in self.plain().items() if name not in EXECUTION_FIELDS}


class Study(Frozen):
    """A study file as resolved.

    Attributes:
        spec: what the file says, with every method's search space written out in it.
        spaces: the search spaces as searched, the study's own defaults and fixed values applied.
    """

    spec: StudySpec
    spaces: dict[str, SearchSpace]

    def trials(self, method: str) -> int:
        """Trials of `method` in each cell: its budget, or fewer where its space has fewer configurations."""
        budget = self.spec.methods[method].trials or self.spec.budget.trials
        return int(min(budget, self.spaces[method].cardinality()))


def load_study(path: Folder, overrides: tuple[str, ...] = (), name: str | None = None) -> Study:
    """The study file at `path`, with `key.path=value` overrides applied.

    Raises:
        InputError: one line a mistake, naming file and field.
    """
    return resolve(read_document(path, overrides, name), str(path), path.parent)


def read_document(path: Folder, overrides: tuple[str, ...] = (), name: str | None = None) -> dict[str, Any]:
    """The study file at `path` as plain values, overrides applied, its fields not checked yet. Raises InputError."""
    document = load_yaml(read_text(path), str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path}: must be a mapping of keys to values")
    document.setdefault("name", path.stem)
    for override in overrides:
        _apply(document, override)
    if name is not None:
        document["name"] = name
    return document


def resolve(document: dict[str, Any], origin: str, folder: Folder) -> Study:
    """A study from plain values; paths in it are relative to `folder`. Raises InputError."""
    spec = validate(StudySpec, document, origin)
    resolved, spaces, mistakes = {}, {}, []
    for method, method_spec in spec.methods.items():
        try:
            given = method_spec.space
            base = given if isinstance(given, SearchSpace) else load_space(method, folder / given if given else None)
        except InputError as error:
            mistakes.append(f"{origin}: methods.{field_name(method)}: {error}")
            continue
        space = base
        for field, change in (
            ("ranges", SearchSpace.with_ranges),
            ("defaults", SearchSpace.with_defaults),
            ("fixed", SearchSpace.fixed),
        ):
            try:
                space = change(space, getattr(method_spec, field))
            except InputError as error:
                mistakes.append(f"{origin}: methods.{field_name(method)}.{field}.{error}")
        spaces[method] = space
        resolved[method] = method_spec.model_copy(update={"space": base})
    if not mistakes and spec.warm_start is not None:
        from rem_study.warm_start import starting_points

        try:
            spec = spec.model_copy(update={"warm_start": starting_points(spec, spaces, folder)})
        except InputError as error:
            mistakes += [f"{origin}: warm_start: {line}" for line in str(error).splitlines()]
    if mistakes:
        raise InputError("\n".join(mistakes))
    return Study(spec=spec.model_copy(update={"methods": resolved}), spaces=spaces)


def _apply(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {one_line(override)}: must be key.path=value")
    *parents, last = key.split(".")
    node: Any = document
    for parent in parents:
        child = node.get(parent)
        if child is None:
            node[parent] = child = {}
        elif isinstance(child, list):
            try:
                node[parent] = child = _as_mapping(child) if parent == "methods" else child
            except ValueError as error:
                raise InputError(f"--set {one_line(override)}: {parent}: {error}") from None
        if not isinstance(child, dict):
            raise InputError(f"--set {one_line(override)}: {one_line(parent)} is not a mapping of keys to values")
        node = child
    node[last] = load_yaml(text, f"--set {one_line(override)}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def cell_name(corruption: str, discovery_rate: float) -> str:
    """What tables and pictures call a cell: `poison@0.1`."""
    return f"{corruption}@{discovery_rate:g}"
