"""Which of a checkpoint's names are which of a network's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from rem_study.errors import InputError
from rem_study.spec.yaml_file import one_line

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
"""What `DataParallel`, `torch.compile` and the like put into the names of what they wrap."""
_COUNTER = "num_batches_tracked"
_TRAINING = re.compile(
    r"(.*_)?(criterion|loss|loss_fn|loss_func|objective|metrics?|acc|accuracy|f1|auroc)(_.*)?|aux(iliary)?[0-9]*(_.*|logits)?"
)
"""Modules beside a network's layers that only training runs: a loss with class weights, metrics, the auxiliary
classifiers of GoogLeNet and Inception."""


@dataclass(frozen=True)
class Fit:
    """A network's names in a checkpoint.

    Attributes:
        names: of the checkpoint, by the network's.
        absent: names of the network that the checkpoint does without: counters of batches.
        beside: names of the checkpoint that are none of the network's.
    """

    names: dict[str, str]
    absent: list[str]
    beside: list[str]


class Ambiguous(InputError):
    """More than one part of a checkpoint fits."""


def fit_names(state: Mapping[str, Tensor], network: nn.Module, path: Path, what: str, prefix: str | None = None) -> Fit:
    """Hold a checkpoint's names against a network's: a prefix before them, and what wrappers put between, may differ.

    Args:
        what: how messages call the network.
        prefix: before the names, if it is known.

    Raises:
        InputError: names or shapes are not those of `network`, or they are behind several prefixes.
    """
    wanted = network.state_dict()
    plain = {name: _plain(name) for name in state}
    own = {name: _plain(name) for name in wanted}
    if len(set(plain.values())) < len(plain) or len(set(own.values())) < len(own):
        plain, own = {name: name for name in state}, {name: name for name in wanted}
    by_plain = {short: name for name, short in plain.items()}
    first = next(iter(own.values()), "")
    prefixes = ["", *(short.removesuffix(first) for short in by_plain if short.endswith(f".{first}"))]
    needed = [short for short in own.values() if short.rpartition(".")[2] != _COUNTER]
    if prefix is None:
        fitting = [p for p in dict.fromkeys(prefixes) if all(p + short in by_plain for short in needed)]
        if len(fitting) > 1:
            before = ", ".join(one_line(p.removesuffix(".")) or "none" for p in fitting)
            raise Ambiguous(f"{one_line(path)}: names of {what} stand behind several: {before}; --weights chooses")
        prefix = max(prefixes, key=lambda p: sum(p + short in by_plain for short in own.values()))
    names = {name: by_plain[prefix + short] for name, short in own.items() if prefix + short in by_plain}
    absent = [name for name in wanted if name not in names and name.rpartition(".")[2] == _COUNTER]
    missing = [prefix + own[name] for name in wanted if name not in names and name not in absent]
    used = set(names.values())
    spare = [name for name in state if name not in used]
    beside = [name for name in spare if _is_beside(plain[name], prefix)]
    unknown = [name for name in spare if name not in beside]
    wrong = [
        f"{names[name]} is {_shape(state[names[name]])}, not {_shape(value)}"
        for name, value in wanted.items()
        if name in names and state[names[name]].shape != value.shape
    ]
    told = [_list("it lacks", missing), _list("it has besides", unknown), _list("", wrong)]
    if any(told):
        raise InputError(f"{one_line(path)}: does not fit {what}: {'; '.join(filter(None, told))}")
    return Fit(names, absent, beside)


def _plain(name: str) -> str:
    """The name without what wrappers have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_beside(name: str, prefix: str) -> bool:
    """Whether a name that the network does not have stands beside it: outside its prefix, or run by
    training alone."""
    if prefix and not name.startswith(prefix):
        return True
    return _TRAINING.fullmatch(name.removeprefix(prefix).split(".")[0].lower()) is not None


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"


def _list(intro: str, items: list[str]) -> str:
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{intro} {one_line(items[0])}{more}".strip() if items else ""
