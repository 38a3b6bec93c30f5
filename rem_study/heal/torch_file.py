"""What a file of `torch.save` holds, opened without running anything in it, and the state dicts in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rem_study.errors import InputError
from rem_study.spec.yaml_file import one_line

DEEPEST = 4
"""Keys above a state dict, at most."""


def load_torch(path: Path) -> Any:
    """The content, by `torch.load` with `weights_only`: tensors, containers, numbers, text. NumPy's scalars and arrays,
    namespaces, paths and times may stand beside them; they are passed over.

    Raises:
        InputError: it is no such file, or holds something else; its type is named.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")  # torch tells of what is then refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ... and whatever a damaged pickle raises
        text = " ".join(str(error).split())
        if "TorchScript" in text:
            why = "it is a TorchScript archive (torch.jit.save)"
        elif refused := _refused(path, text):
            shown = ", ".join(map(one_line, refused[:4])) + (f" and {len(refused) - 4} more" if refused[4:] else "")
            why = f"it holds {shown}, which could run code (weights_only=True refuses it)"
        else:
            why = f"weights_only=True: {type(error).__name__}"
        raise InputError(
            f"{one_line(path)}: torch.load cannot open it: {why}; save network.state_dict() alone"
        ) from None


def state_dicts(content: Any) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Every mapping in `content` of names to tensors, by the keys above it; tensors by name, other values left out.

    An optimiser's state is none: its tensors stand under numbers.
    """
    return dict(_walk(content, ()))


def _walk(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield keys, tensors
    if len(keys) < DEEPEST:
        for name, value in content.items():
            yield from _walk(value, (*keys, name))


def left_aside(content: Any, keys: tuple[str, ...], state: Mapping[str, Tensor]) -> list[str]:
    """What else the file holds beside the state dict under `keys`."""
    names: list[str] = []
    for depth, key in enumerate(keys):
        names += [".".join((*keys[:depth], name)) for name in content if name != key]
        content = content[key]
    return names + [".".join((*keys, name)) for name in content if name not in state]


class _Aside:
    """Stands for a value beside the weights: takes what it is given, keeps nothing, calls nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _harmless() -> list[Any]:
    """What training scripts keep beside weights, and torch would refuse: nothing of it is made, an `_Aside` is."""
    names = [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    names += ["numpy.dtype", "numpy.ndarray", *(f"numpy.dtypes.{name}" for name in dir(np.dtypes) if name[0] != "_")]
    names += ["argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta"]
    names += [f"pathlib{module}.{name}Path" for module in ("", "._local") for name in ("Posix", "Windows", "PurePosix")]
    return [(_Aside, name) for name in names]


def _refused(path: Path, text: str) -> list[str]:
    """The types in the file that torch does not open, by their full names."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # a file of the old form, which it does not read
        found = []
    return sorted(found) or re.findall(r"(?:GLOBAL|class|function) ([A-Za-z_][\w.]+\.\w+)", text)[:1]
