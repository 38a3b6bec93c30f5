"""The network that a checkpoint belongs to: by the name of its architecture, or from a user's own factory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rem_study.data import Dataset
from rem_study.errors import InputError
from rem_study.heal.checkpoint import Checkpoint
from rem_study.heal.fit import Ambiguous, Fit, fit_names
from rem_study.models import build_model
from rem_study.models.own_model import unwrapped
from rem_study.seeds import derive_seed
from rem_study.spec.frozen import Frozen
from rem_study.spec.model import ModelSpec, TorchvisionSpec
from rem_study.spec.yaml_file import load_yaml, one_line, validate


@dataclass(frozen=True)
class Architecture:
    """A network with a checkpoint's values.

    Attributes:
        network: in its author's own form, on the device of the data.
        checkpoint: the state dict of the file that its values come from.
        fit: its names in that.
        fresh: newly initialised ones, always the same weights.
    """

    network: nn.Module
    checkpoint: Checkpoint
    fit: Fit
    fresh: Callable[[], nn.Module]

    def in_checkpoint(self, network: nn.Module) -> dict[str, Tensor]:
        """The values of a network like this one, by the checkpoint's names."""
        state = network.state_dict()
        return {theirs: state[own] for own, theirs in self.fit.names.items()}

    def notes(self) -> list[str]:
        """What of the checkpoint was left aside, or is not there; a line each."""
        place, told = one_line(self.checkpoint.path), []
        if self.checkpoint.keys:
            told.append(f"{place}: the weights are those under {one_line(self.checkpoint.key)}")
        if self.checkpoint.aside:
            told.append(f"{place}: left aside: {_some(self.checkpoint.aside)}")
        if self.fit.beside:
            told.append(f"{place}: kept as they are, being none of the network's: {_some(self.fit.beside)}")
        if self.fit.absent:
            told.append(f"{place}: has no {_some(self.fit.absent)}: counted from 0")
        return told


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(one_line, names[:4])) + more


def load_architecture(model: str, dataset: Dataset, checkpoint: Checkpoint, seed: int) -> Architecture:
    """The network that `model` names, for the images and classes of `dataset`, with the checkpoint's values.

    A ResNet of torchvision has its usual stem or the one for small images; which of them, the checkpoint shows.

    Args:
        model: a name or mapping as in a study file, or `package.module:factory`.
        seed: of the fresh networks' weights.

    Raises:
        InputError: no such architecture or factory, the checkpoint does not fit it, or several state dicts in it do.
    """
    mistakes: list[InputError] = []
    for what, build in _candidates(model, dataset):

        def fresh(build: Callable[[int], nn.Module] = build) -> nn.Module:
            return unwrapped(build(derive_seed("heal", "fresh", seed))).to(dataset.device)

        try:
            network = fresh()
            chosen, fit = _fitting(checkpoint, network, what)
        except Ambiguous:
            raise
        except InputError as error:
            mistakes.append(error)
            continue
        values = {own: chosen.state[theirs] for own, theirs in fit.names.items()}
        network.load_state_dict(values | {name: network.state_dict()[name] for name in fit.absent})
        return Architecture(network, chosen, fit, fresh)
    raise mistakes[0]


def _fitting(checkpoint: Checkpoint, network: nn.Module, what: str) -> tuple[Checkpoint, Fit]:
    """The state dict in the file that is this network's, and its names there."""
    fitting, mistakes = [], []
    for one in (checkpoint, *checkpoint.others):
        try:
            fitting.append((one, fit_names(one.state, network, one.path, what, one.prefix)))
        except Ambiguous:
            raise
        except InputError as error:
            mistakes.append(error)
    if not fitting:
        keys = [one_line(one.key) for one in (checkpoint, *checkpoint.others) if one.key]
        others = f" (tensors by name stand under {_some(keys)}; --weights chooses)" if checkpoint.others else ""
        raise InputError(f"{mistakes[0]}{others}")
    if len(fitting) > 1:
        keys = [one_line(one.key) or "no key" for one, _ in fitting]
        place = one_line(checkpoint.path)
        raise Ambiguous(f"{place}: several state dicts in it fit {what}: {', '.join(keys)}; --weights KEY chooses")
    return fitting[0]


class _Model(Frozen):
    model: ModelSpec


def _candidates(text: str, dataset: Dataset) -> list[tuple[str, Callable[[int], nn.Module]]]:
    """What `text` may mean: what messages call it, and a function of a seed that builds it."""
    is_mapping = text.lstrip().startswith("{")
    if ":" in text and not is_mapping:
        factory = _import_factory(text)
        images = tuple(dataset.train_images.shape[1:])
        return [(text, lambda seed: _call_factory(text, factory, seed, images))]
    document = load_yaml(text, "--model") if is_mapping else {"name": text}
    spec = validate(_Model, {"model": document}, "--model").model
    specs = [spec]
    if isinstance(spec, TorchvisionSpec) and spec.small_input is None and "resne" in spec.name:
        specs = [spec.model_copy(update={"small_input": small}) for small in (False, True)]
    channels, height, width = dataset.train_images.shape[1:]
    shape = (channels, height, width)
    what = f"{spec.name} for {dataset.num_classes} classes and images of {channels} x {height} x {width} pixels"

    def builder(spec: ModelSpec) -> Callable[[int], nn.Module]:
        return lambda seed: build_model(spec, shape, dataset.num_classes, seed)

    return [(what, builder(spec)) for spec in specs]


def _import_factory(text: str) -> Callable[[], object]:
    module_name, _, name = text.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory: object = importlib.import_module(module_name)
        for part in name.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # whatever the user's own module raises when it is imported
        raise InputError(f"--model: {text}: {_reason(error)}") from None
    if not callable(factory):
        raise InputError(f"--model: {text} cannot be called")
    return factory


def _call_factory(text: str, factory: Callable[[], object], seed: int, images: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = factory()
        except Exception as error:  # as above
            raise InputError(f"--model: {text}(): {_reason(error)}") from None
        if isinstance(network, nn.Module):
            _finish(network, text, images)
    if not isinstance(network, nn.Module):
        raise InputError(f"--model: {text}() gives {type(network).__name__}, no torch.nn.Module")
    return network


@torch.no_grad()
def _finish(network: nn.Module, text: str, images: tuple[int, ...]) -> None:
    """Give lazy layers their sizes, from an image; let no weight be bound to a graph, as old weight norms leave it."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())
    if not any(is_lazy(value) for value in (*network.parameters(), *network.buffers())):
        return
    was_training = network.training
    try:
        network.eval()(torch.zeros(2, *images))
    except Exception as error:  # whatever the user's own code raises
        shape = " x ".join(map(str, images))
        raise InputError(f"--model: {text}: its lazy layers cannot take images of {shape}: {_reason(error)}") from None
    network.train(was_training)
    left = [name for name, value in network.named_parameters() if is_lazy(value)]
    if left:
        raise InputError(f"--model: {text}: {left[0]} is lazy, and no image reaches it")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
