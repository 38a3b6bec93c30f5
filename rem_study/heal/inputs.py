"""What a person gives `heal` and `diagnose`: a checkpoint, its data, the ids they know; read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet, Dataset, load_dataset
from rem_study.data.dataset import usual_augmentation
from rem_study.data.given import Given as Known
from rem_study.data.given import read_known
from rem_study.data.place import prepared_under
from rem_study.data.sources import SOURCES, Augmentation
from rem_study.errors import InputError, did_you_mean
from rem_study.heal.architecture import Architecture, load_architecture
from rem_study.heal.checkpoint import read_checkpoint
from rem_study.heal.foreign import DEFAULT_GIB, check_size, check_tensors
from rem_study.heal.healing import normalised_by, pose
from rem_study.heal.names import Names, read_names
from rem_study.heal.views import AS_THEY_ARE, Views, suiting
from rem_study.models.own_model import with_sites
from rem_study.spec import RecipeSpec
from rem_study.spec.corruption import GivenSpec
from rem_study.spec.data import OwnDataSpec, kind_of
from rem_study.spec.yaml_file import load_yaml, one_line, validate
from rem_study.storage import Folder
from rem_study.unlearning.suspicion import doubt, training_logits

DEVICE_SHARE = 0.4
"""Of an accelerator's memory that images may take; a set that takes more stays in the CPU's."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Given:
    """The options that say what the model is and what it was trained on; `--help` says what each means.

    `root`: where prepared images are found and put; None: they are read for this process alone.
    """

    checkpoint: Path
    model: str
    data: str
    ids: Path
    id_column: str | None = None
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: int | None = None
    rgb: bool = False
    original: str | None = None
    seed: int = 0
    device: str | None = None
    max_size: float = DEFAULT_GIB
    root: Folder | None = None


@dataclass(frozen=True)
class Case:
    """What `Given` leads to.

    Attributes:
        ids: int64 (n,), of the samples known to be corrupted. clean_labels: int64 (n,), where they are known.
        names: of samples and classes.
        recipe: how the model was trained.
        notes: what was taken otherwise than it stands in the files, or left aside.
        views: of images that networks are asked about.
    """

    architecture: Architecture
    dataset: Dataset
    names: Names
    ids: Tensor
    clean_labels: Tensor | None
    recipe: RecipeSpec
    seed: int
    notes: tuple[str, ...] = ()
    views: Views = AS_THEY_ARE

    @cached_property
    def doubt_before(self) -> Tensor:
        """How far the network as it was given doubts each training sample's label (`doubt`), float32 (N,), on the
        CPU."""
        return doubt(self.logits_of(self.architecture.network), self.dataset.train_labels.cpu())

    @property
    def room(self) -> int:
        """How many samples may be taken for known beside those that are: `heal` unlearns no more than half."""
        return len(self.dataset.train_labels) // 2 - len(self.ids)

    def logits_of(self, network: nn.Module) -> Tensor:
        """Of all training samples, float32 (N, K), on the CPU, the mean over `views`."""
        data = CorruptedTrainingSet(self.dataset, None)
        everything = torch.arange(len(data), device=data.device)
        return training_logits(self.classifier(network), data, everything, self.views)

    def classifier(self, network: nn.Module) -> nn.Module:
        """A network in its author's form, as images to logits."""
        channels, height, width = self.dataset.train_images.shape[1:]
        return with_sites(network, (channels, height, width))


def read_case(given: Given, data: OwnDataSpec) -> Case:
    """Read all that is named. Raises InputError for whatever is wrong with it."""
    for path in (given.checkpoint, Path(data.root or ".")):
        check_size(path, given.max_size)
    checkpoint = read_checkpoint(given.checkpoint, given.weights)
    check_tensors(given.checkpoint, checkpoint.state, given.max_size)
    dataset = _load_data(given, data)
    known = _read_ids(given, dataset)
    recipe = _recipe(given.original)
    architecture = load_architecture(given.model, dataset, checkpoint, given.seed)
    notes = [*architecture.notes(), *dataset.notes, *(f"{one_line(given.ids)}: {note}" for note in known.notes)]
    if recipe.optimizer != "sgd":
        notes.append(
            f"--original: methods, a diagnosis's too, step by {recipe.optimizer}, for which their default learning "
            "rates may be too large: they are SGD's, which heals networks that others trained, too"
        )
    names = read_names(dataset)
    case = Case(architecture, dataset, names, known.ids, known.clean_labels, recipe, given.seed, tuple(notes))
    return _as_trained(case, data)


def _as_trained(case: Case, data: OwnDataSpec) -> Case:
    """The case, with the views that suit its network; and beside the augmentation that `data` has, images cropped and
    flipped at random where moved and mirrored ones suit it, unless `data` says that they are not augmented."""
    task = pose(case.architecture.network, case.dataset, case.ids, case.recipe, seed=case.seed)
    views = suiting(task.network, task.data, task.retain_ids)
    case = replace(case, views=views)
    if data.augment is False:
        return case
    crops, flips = any(view.moved for view in views), any(view.mirrored for view in views)
    usual = usual_augmentation(data.name, case.dataset.train_images.shape[-1])
    read = case.dataset.augmentation or Augmentation(0, False)
    suits = Augmentation(read.padding or (usual.padding if crops else 0), read.flip or flips)
    if suits == read:
        return case
    how = " and ".join([*(["cropped"] if suits.padding else []), *(["flipped"] if suits.flip else [])])
    note = f"healing takes images {how} at random, as suits the network (--data '{{..., augment: false}}': as they are)"
    return replace(case, dataset=case.dataset.augmented_by(suits), notes=(*case.notes, note))


def _read_ids(given: Given, dataset: Dataset) -> Known:
    spec = {"name": "given", "file": str(given.ids), "id_column": given.id_column}
    try:
        return read_known(validate(GivenSpec, spec, "--ids"), dataset)
    except InputError as error:
        raise InputError(str(error).replace("corruptions.given.file", "--ids", 1)) from None


def data_spec(text: str) -> OwnDataSpec:
    """As in a study file if it is a mapping; a built-in data set by name; else a path, whose kind shows."""
    if text.lstrip().startswith("{"):
        spec = validate(OwnDataSpec, load_yaml(text, "--data"), "--data")
        if spec.train_samples or spec.test_samples:
            raise InputError("--data: train_samples, test_samples: must be left out, since ids count all images")
        return spec
    if text in SOURCES and not Path(text).exists():
        return validate(OwnDataSpec, {"name": text}, "--data")
    path = Path(text)
    if not path.exists():
        raise InputError(
            f"--data: {one_line(text)}: no such file or folder, nor a data set by name{did_you_mean(text, SOURCES)}"
        )
    kind = _prefixed("--data: ", lambda: kind_of(path))
    return validate(OwnDataSpec, {"name": kind, "root": text}, "--data")


def _load_data(given: Given, spec: OwnDataSpec) -> Dataset:
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device: {device}: {' '.join(str(error).split())[:200]}") from None
    dataset = _prepared(given, spec, device)
    if given.rgb and dataset.train_images.shape[1] == 1:
        grey = (dataset.train_images, dataset.test_images)
        train, test = (images.expand(-1, 3, -1, -1) for images in grey)
        dataset = replace(dataset, train_images=train, test_images=test)
    if given.classes is not None:
        if given.classes < dataset.num_classes:
            raise InputError(f"--classes: {given.classes}, but the data have {dataset.num_classes}")
        dataset = replace(dataset, num_classes=given.classes)
    return _prefixed("--", lambda: normalised_by(dataset, given.mean, given.std))


def _prepared(given: Given, spec: OwnDataSpec, device: str) -> Dataset:
    try:
        with prepared_under(given.root):
            return load_dataset(spec, device, DEVICE_SHARE)
    except OSError as error:
        raise InputError(f"--root: {error.filename or given.root}: {error.strerror or error}") from None


def _recipe(text: str | None) -> RecipeSpec:
    recipe = RecipeSpec() if text is None else validate(RecipeSpec, load_yaml(text, "--original"), "--original")
    if recipe.kind != "standard":
        raise InputError(f"--original: kind: {recipe.kind!r} is for networks of a study; a checkpoint is standard")
    return recipe


def _prefixed(prefix: str, compute: Callable[[], Answer]) -> Answer:
    try:
        return compute()
    except InputError as error:
        raise InputError(f"{prefix}{error}") from None
