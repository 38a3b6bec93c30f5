"""The study file: everything a user may say about a study, checked once at the border."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from rem_study.spec.cell import DiscoveryRate, cell_name
from rem_study.spec.corruption import CorruptionSpec, GivenSpec
from rem_study.spec.data import DataSpec
from rem_study.spec.frozen import Frozen, Int, NotNegative, PositiveInt, Share
from rem_study.spec.model import ModelSpec, ResNet9Spec
from rem_study.spec.original import Compile, OriginalSpec, Precision, RecipeSpec
from rem_study.spec.search import BudgetSpec, ConfirmSpec, NeighboursSpec, PrunerSpec, RaceSpec, SamplerSpec
from rem_study.spec.space import Configuration, SearchSpace

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


class ResourcesSpec(Frozen):
    """What one trial gets. These never change a result, except that a trial which reaches the time limit has failed."""

    cpus: PositiveInt = 1
    gpus: NotNegative = 0
    concurrent: PositiveInt | None = Field(
        None,
        description="trials at once; default: what the cluster holds at the start, which is too few where workers are "
        "added on demand",
    )

    data_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.4,
        description="of a trial's GPU memory that images may take; a set that takes more stays in the machine's, and "
        "is sent batch by batch",
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


def methods_as_mapping(value: Any) -> Any:
    """A list of methods as the mapping that it stands for. Raises ValueError where one is listed twice."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError("one is listed twice")
        return {name: {} for name in value}
    return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value


EXECUTION_FIELDS = ("resources", "compile", "tracking")


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
    methods: Annotated[dict[str, MethodSpec], BeforeValidator(methods_as_mapping), Field(min_length=1)]
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
    race: RaceSpec = RaceSpec()
    confirm: ConfirmSpec = ConfirmSpec()
    warm_start: PathOrStarts | None = Field(
        None,
        description="another study's best.yaml, relative to the study file: the configurations of its nearest cell and "
        "for its whole grid are tried right after the default; written out by method and cell in the study's folder",
    )
    resources: ResourcesSpec = ResourcesSpec()
    compile: Compile = Field(
        "none",
        description="training steps of originals and trials through PyTorch's compiler: default: compiled; graphs: "
        "captured as CUDA graphs too, which needs a GPU. Like resources.gpus it changes results by rounding only, "
        "which training multiplies; a study may be gone on with under another one. When it pays: docs/benchmarks.md",
    )
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
    def _reported_apart(self) -> StudySpec:
        if self.race.replicates and not self.confirm.replicates:
            raise ValueError(
                "confirm.replicates: after a race, 1 or more, for scores on replicates that did not choose "
                "(race.replicates: 0 goes without both)"
            )
        return self

    @model_validator(mode="after")
    def _prunable(self) -> StudySpec:
        if self.pruner.name != "none" and self.sampler.name == "nsga2":
            raise ValueError("pruner.name: nsga2 has two objectives, and Optuna prunes with one only")
        if self.pruner.name != "none" and self.budget.replicates == 1:
            raise ValueError("pruner.name: a trial of one replicate (budget.replicates) has nothing to stop before")
        return self

    @model_validator(mode="after")
    def _capturable(self) -> StudySpec:
        if self.compile == "graphs" and not self.resources.gpus:
            raise ValueError("compile: graphs are a GPU's (resources.gpus); without one, none or default")
        return self

    @property
    def searched(self) -> range:
        """The replicates of the search."""
        return range(self.budget.replicates)

    @property
    def raced(self) -> range:
        """The replicates of the race."""
        return range(self.searched.stop, self.searched.stop + self.race.replicates)

    @property
    def confirmed(self) -> range:
        """The replicates of the confirm and transfer phases."""
        return range(self.raced.stop, self.raced.stop + self.confirm.replicates)

    def plain(self) -> dict[str, Any]:
        """The study as plain values, fit for a YAML file that `load_study` reads again."""
        plain = self.model_dump(mode="json")
        for method, method_spec in self.methods.items():
            if isinstance(method_spec.space, SearchSpace):
                plain["methods"][method]["space"] = method_spec.space.model_dump(mode="json", exclude_defaults=True)
        return plain

    def identity(self) -> dict[str, Any]:
        """The study as plain values, less what changes no result beyond rounding (resources, compile, tracking)."""
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
