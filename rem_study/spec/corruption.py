"""What a study file can say of a corruption.

Adding one: a class here, listed in `CorruptionSpec`, and its process in `rem_study/data/processes.py`. Nothing else.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from rem_study.spec.frozen import Frozen, Int, LocalPath, PositiveInt

Rank = Literal["low", "medium", "medium_high", "high"]
RANKS: tuple[Rank, ...] = get_args(Rank)
Class = Annotated[int, Field(ge=0, lt=1_000_000)]


class MadeCorruption(Frozen):
    """A corruption that the study makes itself.

    `regularity_rank` places it on the y axis where its regularity has not been measured.
    """

    regularity_rank: ClassVar[Rank]
    samples: Annotated[int, Field(ge=4, le=1_000_000_000)] | None = Field(
        None, description="corrupted samples; default: 2 % of all"
    )


class RandomLabelSpec(MadeCorruption):
    """Random samples, each label moved to a random other class."""

    regularity_rank = "low"
    name: Literal["random_label"]


class InterclassConfusionSpec(MadeCorruption):
    """Labels of two classes swapped, half of the samples from each."""

    regularity_rank = "medium"
    name: Literal["interclass_confusion"]
    classes: Annotated[tuple[Class, Class], Field(strict=False)] = (3, 5)
    take: Literal["random", "first"] = Field(
        "random",
        description="which samples of the two classes: random ones, others in each replicate; or the first ones of the "
        "training set, the same in every replicate (REM's released code)",
    )

    @model_validator(mode="after")
    def _two_classes(self) -> InterclassConfusionSpec:
        if self.classes[0] == self.classes[1]:
            raise ValueError("classes must be two different ones")
        return self


class SemanticContaminationSpec(MadeCorruption):
    """A group of one class that looks alike, under the label of another class.

    The group is the largest of `clusters` clusters of the class's features in a network trained on clean data.
    """

    regularity_rank = "medium_high"
    name: Literal["semantic_contamination"]
    source: Class = 3
    target: Class = 5
    clusters: Annotated[int, Field(ge=2, le=100)] = Field(
        3, description="into how many groups the source class is divided"
    )

    @model_validator(mode="after")
    def _two_classes(self) -> SemanticContaminationSpec:
        if self.source == self.target:
            raise ValueError("source and target must be two different classes")
        return self


class BlendedTriggerSpec(MadeCorruption):
    """A faint random pattern blended over the whole image, and the label of one target class."""

    regularity_rank = "medium_high"
    name: Literal["blended_trigger"]
    target: Class = 0
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="weight of the pattern in the blend")
    pattern_seed: Int = Field(0, description="which pattern; the same in every replicate")


class PoisonSpec(MadeCorruption):
    """A bright patch at the bottom right, and the label of one target class."""

    regularity_rank = "high"
    name: Literal["poison"]
    target: Class = 0
    patch_size: PositiveInt = 3


class GivenSpec(Frozen):
    """Corruption that the data came with: the ids of samples whose labels in the data are wrong."""

    regularity_rank: ClassVar[None] = None
    name: Literal["given"]
    file: LocalPath = Field(
        description="CSV, Parquet or .npy, relative to the working directory: column id (place in the training set, "
        "from 0, or a file's name) and, where known, clean_label; or a mask, or cleanlab's frame: docs/inputs.md"
    )
    id_column: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="the column that holds the ids, where it is called otherwise"
    )


CorruptionSpec = Annotated[
    Annotated[
        RandomLabelSpec
        | InterclassConfusionSpec
        | SemanticContaminationSpec
        | BlendedTriggerSpec
        | PoisonSpec
        | GivenSpec,
        Field(discriminator="name"),
    ],
    BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value),
]
