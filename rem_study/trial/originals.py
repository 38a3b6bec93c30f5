"""Originals: networks trained on corrupted data, once each, kept under a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import logging
import math
import statistics
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from rem_study.data import CorruptedTrainingSet, Corruption, Dataset, load_dataset
from rem_study.data import given as given_module
from rem_study.data.corruption import draw_corruption, fresh_samples, split_ids
from rem_study.data.dataset import report_half
from rem_study.data.processes import FindGroup, Group, whole_class
from rem_study.errors import UnlearningError
from rem_study.models import SplitNetwork, build_model
from rem_study.seeds import derive_seed, generator, seeded
from rem_study.spec import StudySpec
from rem_study.spec.corruption import CorruptionSpec, SemanticContaminationSpec
from rem_study.spec.original import EtdRecipeSpec, HalfCapacityRecipeSpec
from rem_study.storage import Folder, write_atomically
from rem_study.storage.canonical import canonical_json
from rem_study.storage.folder import read_regular
from rem_study.training import (
    BatchLoader,
    accuracy,
    compiling,
    computing_in,
    given_label_accuracy,
    predict,
    test_predictions,
    train_classifier,
)
from rem_study.trial.code import code_fingerprint
from rem_study.trial.semantic import group_alike
from rem_study.unlearning import UnlearningTask
from rem_study.unlearning.carry_over import carry_over

log = logging.getLogger(__name__)

_IN_MEMORY = 16
_SPLITS = 2  # of the corrupted samples, for the carry-over


@dataclass(frozen=True)
class Setting:
    """What a replicate of one corruption stands on: the data, what is corrupted, and the seeds.

    Every cell, method and trial of the same corruption and replicate shares it and its original.
    """

    spec: StudySpec
    corruption_spec: CorruptionSpec
    replicate: int
    device: str = "cpu"
    originals: OriginalStore | None = field(default=None, compare=False)
    """Where groups that look alike are kept, beside the originals; without it they are found at every draw."""
    loaded: Dataset | None = field(default=None, compare=False)
    """The clean data where they are at hand, or a stand-in for them; else they are loaded when they are asked for."""

    @property
    def dataset(self) -> Dataset:
        """The clean data, on the device."""
        if self.loaded is not None:
            return self.loaded
        # several trials of a fraction of an accelerator share its memory
        share = self.spec.resources.data_share * min(1.0, self.spec.resources.gpus or 1.0)
        return load_dataset(self.spec.data, self.device, share)

    def draw(self) -> Corruption:
        """The corrupted samples of this replicate."""
        return self._draw(self._obtain_group)

    def check(self) -> Corruption:
        """Draw without training a network for it, to see whether the data allow it. Raises InputError.

        A group that looks alike is taken to be as large as its class.
        """
        return self._draw(partial(whole_class, dataset=self.dataset))

    def _draw(self, find_group: FindGroup) -> Corruption:
        report = report_half(len(self.dataset.train_labels), self.spec.seed, "train")
        seed = (self.spec.seed, self.replicate)
        return draw_corruption(self.corruption_spec, self.dataset, report, *seed, find_group=find_group)

    def _obtain_group(self, spec: SemanticContaminationSpec) -> Group:
        """The group that looks alike, the same in every replicate: the stored one, or one found now and stored."""
        first = replace(self, replicate=0)
        key = first._hash(group=spec.model_dump(mode="json", exclude={"samples"}))
        stored = self.originals.load(key) if self.originals else None
        if stored is None:
            network = first.fresh_network("clean")
            with first.computing():
                passes = _train(first, network, CorruptedTrainingSet(self.dataset, None), "clean")
                right = accuracy(test_predictions(network, self.dataset), self.dataset.test_labels)
            train, test = group_alike(network, self.dataset, spec, self.spec.seed)
            facts = {"test_accuracy": right, "sample_passes": passes}
            stored = Original({"train": train, "test": test}, facts)
            if self.originals:
                self.originals.save(key, stored)
        return stored.state["train"], stored.state["test"]

    def fresh_network(self, purpose: str) -> nn.Module:
        """A newly initialised network, in the form that `original.kind` says; each purpose has weights of its own.

        Raises:
            InputError: the network cannot take these images, or not be trained in that way.
        """
        seed = derive_seed("weights", self.spec.seed, self.replicate, purpose)
        images = self.dataset.train_images
        shape = (images.shape[1], images.shape[2], images.shape[3])
        network = build_model(self.spec.model, shape, self.dataset.num_classes, seed)
        recipe = self.spec.original
        if isinstance(recipe, EtdRecipeSpec):
            mask_seed = derive_seed("example-tied dropout", self.spec.seed, self.replicate)
            network = SplitNetwork(network, recipe.p_gen, recipe.p_mem, recipe.p_mem, mask_seed)
        elif isinstance(recipe, HalfCapacityRecipeSpec):
            network = SplitNetwork(network, 0.5, 0.0, 0.0, None)
        network = network.to(self.dataset.device)
        channels_last = self.dataset.device.type == "cuda"  # docs/benchmarks.md
        return network.to(memory_format=torch.channels_last) if channels_last else network

    def computing(self) -> AbstractContextManager[None]:
        """Inside, networks run in the study's precision."""
        return computing_in(self.spec.precision, self.dataset.device)

    def key(self) -> str:
        """A hash of everything the original depends on: data, network, recipe, corruption, seeds, and the code."""
        spec = self.corruption_spec
        return self._hash(corruption=spec.model_dump(mode="json"), given=given_module.fingerprint(spec))

    def _hash(self, **more: Any) -> str:
        content = {
            "data": self.dataset.fingerprint,
            "augment": repr(self.dataset.augmentation),
            "model": self.spec.model.model_dump(mode="json"),
            "recipe": self.spec.original.model_dump(mode="json"),
            "precision": self.spec.precision,
            "seed": self.spec.seed,
            "replicate": self.replicate,
            "code": code_fingerprint(),
            "torch": f"{torch.__version__} {importlib.metadata.version('torchvision')}",
        }
        return hashlib.sha256(canonical_json(content | more).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Original:
    """A trained original.

    Attributes:
        state: its state dict, on the CPU; treat as read-only.
        facts: `regularity` (share of fresh corrupted samples given the corrupted label; None where there are
            none), `carry_over` (from one half of all corrupted samples to the other, see `unlearning.carry_over`; None
            where the flush told nothing; originals of earlier versions lack it), `memorised` (share of the training
            samples' wrong labels it gives), `train_accuracy`, `test_accuracy`, `sample_passes`.
    """

    state: dict[str, torch.Tensor]
    facts: dict[str, Any]


class OriginalStore:
    """Originals in a folder or an object store: `KEY.pt`, weights alone, and `KEY.json`, facts, the key,
    and a checksum of all three: a pair of files that was stored under another key is not taken.

    The last few that `obtain` gave stay in memory, so that a worker's trials read each file once.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._recent: dict[str, Original] = {}

    def has(self, key: str) -> bool:
        """Whether an original is there, whole; a damaged one is logged."""
        return self._read(key) is not None

    def load(self, key: str) -> Original | None:
        """The original under `key`; None if there is none or it cannot be used (which is logged)."""
        found = self._read(key)
        if found is None:
            return None
        content, facts = found
        try:
            return Original(_weights(content), facts)
        except ValueError as error:
            self._warn(key, error)
            return None

    def _read(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        try:
            record = json.loads(read_regular(self.folder / f"{key}.json"))
            weights = read_regular(self.folder / f"{key}.pt")
            if "key" not in record:
                raise ValueError("it was stored by an earlier version, which did not note what it is the original of")
            if record["key"] != key:
                raise ValueError(f"it is another one, {str(record['key'])[:40]!r}")
            if _checksum(key, weights, record["facts"]) != record["sha256"]:
                raise ValueError("its checksum is wrong")
            return weights, record["facts"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._warn(key, error)
            return None

    def _warn(self, key: str, error: Exception) -> None:
        log.warning("original %s in %s cannot be used and will be trained again: %s", key, self.folder, error)

    def save(self, key: str, original: Original) -> None:
        """Write weights, then facts; each file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(original.state, buffer)
        checksum = _checksum(key, buffer.getvalue(), original.facts)
        record = {"sha256": checksum, "key": key, "facts": original.facts}
        for name, content in (
            (f"{key}.pt", buffer.getvalue()),
            (f"{key}.json", canonical_json(record).encode()),
        ):
            write_atomically(self.folder / name, content)

    def obtain(self, setting: Setting) -> Original:
        """The original of `setting`: the stored one, or one trained now and stored."""
        key = setting.key()
        original = self._recent.pop(key, None) or self.load(key)
        if original is None:
            original = train_original(replace(setting, originals=self))
            self.save(key, original)
        self._recent[key] = original
        if len(self._recent) > _IN_MEMORY:
            del self._recent[next(iter(self._recent))]
        return original


def _checksum(key: str, weights: bytes, facts: dict[str, Any]) -> str:
    return hashlib.sha256(f"{key}\0".encode() + weights + canonical_json(facts).encode()).hexdigest()


def _weights(content: bytes) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ...: it holds more, or other, than weights
        raise ValueError(f"it holds something else than weights ({type(error).__name__})") from None


def train_original(setting: Setting) -> Original:
    """Train on all data, wrong labels included; the last epoch's weights are kept, no test image is looked at."""
    dataset, corruption = setting.dataset, setting.draw()
    training_set = CorruptedTrainingSet(dataset, corruption)
    network = setting.fresh_network("original")
    everything = torch.arange(len(training_set), device=training_set.device)
    images, labels = fresh_samples(corruption.process, dataset, setting.spec.seed, setting.replicate)
    indices = torch.arange(len(labels), device=labels.device)
    with setting.computing():
        passes = _train(setting, network, training_set, "original")
        regularity = accuracy(predict(network, lambda ids: network(images(ids)), indices), labels)
        facts = {
            "regularity": None if math.isnan(regularity) else regularity,
            "memorised": given_label_accuracy(network, training_set, corruption.ids.to(training_set.device)),
            "train_accuracy": given_label_accuracy(network, training_set, everything),
            "test_accuracy": accuracy(test_predictions(network, dataset), dataset.test_labels),
            "sample_passes": passes,
            "carry_over": _carry_over(setting, network, training_set, corruption),
        }
    return Original({name: value.cpu() for name, value in network.state_dict().items()}, facts)


def _carry_over(
    setting: Setting, network: nn.Module, training_set: CorruptedTrainingSet, corruption: Corruption
) -> float | None:
    corrupted, rest = split_ids(corruption, 1.0, len(training_set))
    task = UnlearningTask(
        network=network,
        data=training_set,
        forget_ids=corrupted.sort().values.to(training_set.device),
        retain_ids=rest.to(training_set.device),
        recipe=setting.spec.original,
        seed=derive_seed("carry-over", setting.spec.seed, setting.replicate),
        fresh_network=lambda: setting.fresh_network("retrain"),
        precision=setting.spec.precision,
    )
    try:
        carried = carry_over(task, _SPLITS)
    except UnlearningError:
        return None  # the flush broke: it told nothing
    return statistics.fmean(carried) if carried else None


def _train(setting: Setting, network: nn.Module, training_set: CorruptedTrainingSet, purpose: str) -> int:
    """Train `network` on all of `training_set` by the study's recipe; returns sample passes."""
    everything = torch.arange(len(training_set), device=training_set.device)
    rng = generator(purpose, setting.spec.seed, setting.replicate)
    loader = BatchLoader(training_set, everything, setting.spec.original.batch_size, rng)
    with seeded(training_set.device, "dropout", setting.spec.seed, setting.replicate), compiling(setting.spec.compile):
        return train_classifier(network, loader, setting.spec.original)
