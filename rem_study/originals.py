"""Originals: networks trained on corrupted data, once each, kept under a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from rem_study import corruption as corruption_module
from rem_study import data as data_module
from rem_study import training as training_module
from rem_study.corruption import CorruptedTrainingSet, Corruption, draw_corruption, fresh_samples
from rem_study.data import Dataset, load_dataset, report_half
from rem_study.evaluation import accuracy, given_label_accuracy, predict, test_predictions
from rem_study.models import build_model, redirect, resnet9, split, torchvision_model, vit
from rem_study.models.split import SplitNetwork
from rem_study.seeds import derive_seed, generator, seeded
from rem_study.spec import CorruptionSpec, EtdRecipeSpec, HalfCapacityRecipeSpec, StudySpec, canonical_json
from rem_study.training import BatchLoader, train_classifier

log = logging.getLogger(__name__)

_IN_MEMORY = 16


@dataclass(frozen=True)
class Setting:
    """What a replicate of one corruption stands on: the data, what is corrupted, and the seeds.

    Every cell, method and trial of the same corruption and replicate shares it and its original.
    """

    spec: StudySpec
    corruption_spec: CorruptionSpec
    replicate: int
    device: str = "cpu"

    @property
    def dataset(self) -> Dataset:
        """The clean data, on the device."""
        return load_dataset(self.spec.data, self.device)

    def draw(self) -> Corruption:
        """The corrupted samples of this replicate."""
        report = report_half(len(self.dataset.train_labels), self.spec.seed, "train")
        return draw_corruption(self.corruption_spec, self.dataset, report, self.spec.seed, self.replicate)

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
        return network.to(images.device)

    def key(self) -> str:
        """A hash of everything the original depends on: data, network, recipe, corruption, seeds, and the code."""
        content = {
            "data": self.dataset.fingerprint,
            "augment": repr(self.dataset.augmentation),
            "model": self.spec.model.model_dump(mode="json"),
            "recipe": self.spec.original.model_dump(mode="json"),
            "corruption": self.corruption_spec.model_dump(mode="json"),
            "seed": self.spec.seed,
            "replicate": self.replicate,
            "code": code_fingerprint(),
            "torch": f"{torch.__version__} {torchvision.__version__}",
        }
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


@lru_cache
def code_fingerprint() -> str:
    """A hash of the source that training an original runs through."""
    networks = (resnet9, vit, torchvision_model, split, redirect)
    modules = (data_module, corruption_module, training_module, *networks)
    return hashlib.sha256(b"".join(inspect.getsource(module).encode() for module in modules)).hexdigest()


@dataclass(frozen=True)
class Original:
    """A trained original.

    Attributes:
        state: its state dict, on the CPU; treat as read-only.
        facts: `regularity` (share of fresh corrupted samples given the corrupted label), `memorised` (share of the
            training samples' wrong labels it gives), `test_accuracy`, `sample_passes`.
    """

    state: dict[str, torch.Tensor]
    facts: dict[str, Any]


class OriginalStore:
    """Originals in a folder: `KEY.pt`, weights alone, and `KEY.json` with their checksum and facts.

    The last few that `obtain` gave stay in memory, so that a worker's trials read each file once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._recent: dict[str, Original] = {}

    def has(self, key: str) -> bool:
        """Whether an original is there, without reading its weights."""
        return (self.folder / f"{key}.json").exists() and (self.folder / f"{key}.pt").exists()

    def load(self, key: str) -> Original | None:
        """The original under `key`; None if there is none or its checksum is wrong (which is logged)."""
        if not self.has(key):
            return None
        try:
            record = json.loads((self.folder / f"{key}.json").read_text())
            content = (self.folder / f"{key}.pt").read_bytes()
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                raise ValueError("its checksum is wrong")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return Original(state, record["facts"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("original %s in %s cannot be used and will be trained again: %s", key, self.folder, error)
            return None

    def save(self, key: str, original: Original) -> None:
        """Write weights, then facts; each file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(original.state, buffer)
        record = {"sha256": hashlib.sha256(buffer.getvalue()).hexdigest(), "facts": original.facts}
        for name, content in (
            (f"{key}.pt", buffer.getvalue()),
            (f"{key}.json", canonical_json(record).encode()),
        ):
            partial = self.folder / f".{name}.{os.getpid()}"
            partial.write_bytes(content)
            os.replace(partial, self.folder / name)

    def obtain(self, setting: Setting) -> Original:
        """The original of `setting`: the stored one, or one trained now and stored."""
        key = setting.key()
        original = self._recent.pop(key, None) or self.load(key)
        if original is None:
            original = train_original(setting)
            self.save(key, original)
        self._recent[key] = original
        if len(self._recent) > _IN_MEMORY:
            del self._recent[next(iter(self._recent))]
        return original


def train_original(setting: Setting) -> Original:
    """Train on all data, wrong labels included; the last epoch's weights are kept, no test image is looked at."""
    dataset, corruption = setting.dataset, setting.draw()
    training_set = CorruptedTrainingSet(dataset, corruption)
    network = setting.fresh_network("original")
    everything = torch.arange(len(training_set), device=training_set.device)
    rng = generator("original", setting.spec.seed, setting.replicate)
    loader = BatchLoader(training_set, everything, setting.spec.original.batch_size, rng)
    with seeded(training_set.device, "dropout", setting.spec.seed, setting.replicate):
        passes = train_classifier(network, loader, setting.spec.original)
    images, labels = fresh_samples(corruption.process, dataset, setting.spec.seed, setting.replicate)
    indices = torch.arange(len(labels), device=labels.device)
    facts = {
        "regularity": accuracy(predict(network, lambda ids: network(images[ids]), indices), labels),
        "memorised": given_label_accuracy(network, training_set, corruption.ids.to(training_set.device)),
        "train_accuracy": given_label_accuracy(network, training_set, everything),
        "test_accuracy": accuracy(test_predictions(network, dataset), dataset.test_labels),
        "sample_passes": passes,
    }
    return Original({name: value.cpu() for name, value in network.state_dict().items()}, facts)
