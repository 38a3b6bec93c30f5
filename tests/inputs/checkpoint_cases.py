"""Checkpoints, as training scripts write them."""

from __future__ import annotations

import argparse
import copy
import datetime
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs.case import Case
from torch import Tensor, nn

KIND = "Checkpoints"
State = dict[str, Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))  # fmt: skip


def state() -> State:
    return dict(network().state_dict())


def saved(content: Callable[[], Any], *options: str, **given: Any) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        torch.save(content(), place / "mine.pt")
        return {"checkpoint": "mine.pt", "model": "mymodels:cnn", "options": list(options), **given}

    return make


def renamed(change: Callable[[str], str]) -> State:
    return {change(name): value for name, value in state().items()}


def other() -> State:
    return {name: value + 1 for name, value in state().items()}


def optimizer() -> dict[str, Any]:
    made = network()
    adam = torch.optim.Adam(made.parameters())
    made(torch.zeros(2, 1, 12, 12)).sum().backward()
    adam.step()
    return adam.state_dict()


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


class Early:
    """What a training script's own class may be."""


def taken(what: str, make: Any, *notes: str, **extra: Any) -> Case:
    return Case(KIND, what, make, None, notes, extra=extra)


def refused(what: str, make: Any, says: str) -> Case:
    return Case(KIND, what, make, says)


def among(**others: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"net": state(), **others}


def pickled(place: Path) -> dict[str, Any]:
    (place / "mine.pt").write_bytes(pickle.dumps({"w": 1}))
    return {"checkpoint": "mine.pt", "model": "mymodels:cnn"}


def script(place: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is on its way out
        torch.jit.save(torch.jit.trace(network().eval(), torch.zeros(1, 1, 12, 12)), place / "mine.pt")
    return {"checkpoint": "mine.pt", "model": "mymodels:cnn"}


def old_form(place: Path) -> dict[str, Any]:
    torch.save(state(), place / "mine.pt", _use_new_zipfile_serialization=False)
    return {"checkpoint": "mine.pt", "model": "mymodels:cnn"}


def old_evil(place: Path) -> dict[str, Any]:
    torch.save({"net": state(), "x": Early()}, place / "mine.pt", _use_new_zipfile_serialization=False)
    return {"checkpoint": "mine.pt", "model": "mymodels:cnn"}


def parallel_features(name: str) -> str:
    """As in `model.features = DataParallel(model.features)`; here a block is the feature extractor."""
    first, _, rest = name.partition(".")
    return f"{first}.module.{rest}" if first == "0" else name


_COUNTERS = {name for name in state() if name.endswith("num_batches_tracked")}
_KEY = "mine.pt: the weights are those under net"

CASES = [
    taken("a state dict", saved(state), keys=()),
    taken("a state dict, saved in torch's old form", old_form, keys=()),
    taken("`{'net': state_dict, 'acc', 'epoch'}`", saved(among(acc=0.9, epoch=3)), _KEY, "left aside: acc, epoch",
          keys=("net",)),
    *[taken(f"a state dict under `{key}`", saved(lambda key=key: {key: state(), "epoch": 3}),
            f"the weights are those under {key}", keys=(key,))
      for key in ("state_dict", "model_state_dict", "model", "weights", "params", "model_ema")],
    taken("a state dict two keys deep", saved(lambda: {"checkpoint": {"model": state()}}),
          "those under checkpoint.model", keys=("checkpoint", "model")),
    taken("tensors and numbers side by side", saved(lambda: {**state(), "epoch": 3}), "left aside: epoch", keys=()),
    taken("beside it the optimiser and the generator's state",
          saved(lambda: {"net": state(), "optimizer": optimizer(), "rng": torch.get_rng_state()}), _KEY,
          "left aside: optimizer, rng", keys=("net",)),
    taken("beside it NumPy's scalars and arrays", saved(among(acc=np.float64(0.9), curve=np.arange(3.0))), _KEY,
          "left aside: acc, curve", keys=("net",)),
    taken("beside it NumPy's texts and structures", saved(among(names=np.array(["a"]), kind=np.dtype("i4"))), _KEY,
          keys=("net",)),
    taken("beside it an `argparse.Namespace`", saved(among(args=argparse.Namespace(lr=0.1, out=Path("x")))), _KEY,
          "left aside: args", keys=("net",)),
    taken("beside it a path and a time", saved(among(path=Path("x"), time=datetime.timedelta(1))), _KEY, keys=("net",)),
    taken("no `num_batches_tracked`", saved(lambda: {k: v for k, v in state().items() if k not in _COUNTERS}),
          "has no 1.num_batches_tracked: counted from 0", keys=()),
    taken("parameters instead of tensors", saved(lambda: dict(network().named_parameters()) | {
        k: v for k, v in state().items() if "running" in k}), "has no 1.num_batches_tracked", keys=()),
    taken("an `OrderedDict` with a prefix (`module.`)", saved(lambda: OrderedDict(renamed("module.{}".format))),
          keys=()),
    taken("`_orig_mod.` (torch.compile)", saved(lambda: renamed("_orig_mod.{}".format)), keys=()),
    taken("`module._orig_mod.`", saved(lambda: renamed("module._orig_mod.{}".format)), keys=()),
    taken("`features.module.*` (only a part was parallel)", saved(lambda: renamed(parallel_features)), keys=()),
    taken("Lightning's `model.` and a loss's buffer (`criterion.weight`)",
          saved(lambda: {"state_dict": renamed("model.{}".format) | {"criterion.weight": torch.ones(10)},
                         "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}}),
          "those under state_dict", "left aside: pytorch-lightning_version, hyper_parameters",
          "kept as they are, being none of the network's: criterion.weight", keys=("state_dict",)),
    taken("a loss's buffer beside names without a prefix",
          saved(lambda: state() | {"criterion.weight": torch.ones(10)}), "kept as they are", keys=()),
    taken("a metric's buffers", saved(lambda: state() | {"train_acc.total": torch.ones(1)}), "kept as they are",
          keys=()),
    refused("two state dicts that fit", saved(lambda: {"model": state(), "ema": other()}),
            "several state dicts in it fit mymodels:cnn: model, ema; --weights KEY chooses"),
    taken("the same, with `--weights`", saved(lambda: {"model": state(), "ema": other()}, "--weights", "ema"),
          "those under ema", "left aside: model", keys=("ema",)),
    taken("two state dicts of which one fits",
          saved(lambda: {"encoder": {"w": torch.zeros(3, 3)}, "head": state()}), "those under head", keys=("head",)),
    refused("`--weights` that is not there", saved(among(epoch=1), "--weights", "model"),
            "no state dict under 'model'; its keys are: net"),
    refused("student and teacher in one state dict",
            saved(lambda: renamed("student.{}".format) | renamed("teacher.{}".format)),
            "stand behind several: student, teacher; --weights chooses"),
    taken("the same, with `--weights`, by the prefix",
          saved(lambda: renamed("student.{}".format) | renamed("teacher.{}".format), "--weights", "teacher"),
          "kept as they are", keys=()),
    refused("a layer that the network does not have", saved(lambda: state() | {"8.weight": torch.ones(1)}),
            "does not fit mymodels:cnn: it has besides 8.weight"),
    refused("a layer that is missing", saved(lambda: {k: v for k, v in state().items() if k != "3.bias"}),
            "it lacks 3.bias"),
    refused("another shape", saved(lambda: state() | {"7.bias": torch.ones(9)}), "7.bias is 9, not 10"),
    refused("none that fits, under several keys", saved(lambda: {"a": {"x": torch.ones(1)}, "b": {"y": torch.ones(1)}}),
            "(tensors by name stand under a, b; --weights chooses)"),
    refused("a whole network (`torch.save(network)`)", saved(network),
            "it holds torch.nn.modules.activation.ReLU"),
    refused("a class of the script's own beside it", saved(among(stop=Early())),
            "it holds inputs.checkpoint_cases.Early"),
    refused("the same, in torch's old form", old_evil, "inputs.checkpoint_cases.Early"),
    refused("a pickle that would run something", saved(lambda: {"net": state(), "x": Evil()}), "which could run code"),
    refused("a pickle without tensors", pickled, "torch.load cannot open it: weights_only=True: UnpicklingError"),
    refused("a TorchScript archive", script, "it is a TorchScript archive"),
    refused("the optimiser's state alone", saved(optimizer),
            "is no state dict, tensors by name; it holds state (dict)"),
    refused("an empty state dict", saved(dict), "it holds nothing"),
    refused("a list of tensors", saved(lambda: [torch.ones(1)]), "it holds a list"),
    refused("half a file", lambda p: (torch.save(state(), p / "all.pt"),
                                      (p / "mine.pt").write_bytes((p / "all.pt").read_bytes()[:900]),
                                      {"checkpoint": "mine.pt", "model": "mymodels:cnn"})[2], "torch.load cannot open"),
]  # fmt: skip


def expected_names(case: Case, place: Path) -> list[str]:
    """The tensors' names in the input, below its key."""
    content = torch.load(place / "mine.pt", weights_only=False)
    for key in case.extra["keys"]:
        content = content[key]
    return [name for name, value in copy.copy(content).items() if isinstance(value, Tensor)]
