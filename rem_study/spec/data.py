"""Which images a study stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rem_study.errors import InputError
from rem_study.spec.frozen import Frozen, LocalPath, PositiveInt
from rem_study.spec.yaml_file import one_line

ColumnName = Annotated[str, Field(min_length=1)]


class ColumnsSpec(Frozen):
    """What the columns of Parquet files are called, where they are not `image` and `label`."""

    image: ColumnName | None = Field(None, description="default: `image`, or the only one with encoded images")
    label: ColumnName | None = Field(None, description="default: `label`, or the only one that can be")


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
        "test_images, test_labels; parquet: folder of train.parquet and test.parquet (image, label), or of shards; "
        "other names and types: docs/inputs.md; digits need none",
    )
    download: bool = Field(False, description="let torchvision fetch what is missing under root")
    columns: ColumnsSpec | None = Field(None, description="parquet's, where they are called otherwise")
    image_size: Annotated[int, Field(ge=12, le=1024)] | None = Field(
        None, description="pixels a side; default: the data set's"
    )
    train_samples: PositiveInt | None = Field(None, description="a fixed random part of the training images")
    test_samples: PositiveInt | None = Field(None, description="a fixed random part of the test images")
    augment: bool | None = Field(None, description="random crops (and flips where they suit); default: the data set's")

    def are_there(self) -> bool:
        """Whether there are files to read under `root`; they may be malformed. Nothing is fetched."""
        if self.name == "digits" or self.root is None:
            return True
        pattern = _FILES.get(self.name)
        return any(Path(self.root).glob(pattern)) if pattern else Path(self.root).exists()


_FILES = {"fashion_mnist": "FashionMNIST/raw/*", "cifar10": "cifar-10-batches-py/*", "svhn": "*_32x32.mat"}
"""Where torchvision keeps them under `root`."""


class OwnDataSpec(DataSpec):
    """The images that a user's own model was trained on, as they are."""

    as_is: ClassVar[bool] = True


def kind_of(path: Path) -> str:
    """What a user's own images are kept as: `folder`, `npz` or `parquet`. Raises InputError for anything else."""
    if path.is_dir():
        train = path / "train"
        has_classes = train.is_dir() and any(entry.is_dir() for entry in train.iterdir())
        return "parquet" if not has_classes and any(path.rglob("*.parquet")) else "folder"
    if path.suffix.lower() in (".npz", ".parquet", ".pq"):
        return "npz" if path.suffix.lower() == ".npz" else "parquet"
    raise InputError(f"{one_line(path)}: is neither an .npz or .parquet file nor a folder")
