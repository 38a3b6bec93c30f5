"""A user's checkpoint: read without running what it holds, and written back under its names."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rem_study.errors import InputError, did_you_mean
from rem_study.heal.torch_file import left_aside, load_torch, state_dicts
from rem_study.spec.yaml_file import one_line


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's file holds.

    Attributes:
        state: its tensors by name, on the CPU; treat as read-only.
        keys: those below which they stood, if any.
        metadata: of a safetensors file.
        aside: what else the file holds, which is not kept.
        prefix: before the names of the network that is meant, if that was said.
        others: further state dicts in the file; which of them is a network's, its architecture decides.
    """

    path: Path
    state: dict[str, Tensor]
    keys: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    aside: tuple[str, ...] = ()
    prefix: str | None = None
    others: tuple[Checkpoint, ...] = ()

    @property
    def key(self) -> str:
        """How `--weights` calls it."""
        return ".".join(self.keys)


def read_checkpoint(path: Path, weights: str | None = None) -> Checkpoint:
    """A safetensors file (by its suffix), or what `torch.load` opens with `weights_only`, with a state dict in it.

    Args:
        weights: the key of the state dict that is meant, `a.b` where it stands below two, or what stands before its
            names in a larger one; default: all that there are are candidates, the largest first.

    Raises:
        InputError: the file is missing or holds no named tensors, `weights` is none of its keys, or safetensors is not
            installed.
    """
    if not path.is_file():
        raise InputError(f"{one_line(path)}: no such file")
    if _is_safetensors(path):
        if weights is not None:
            raise InputError(f"--weights: {one_line(path)}: a safetensors file has no keys above its tensors")
        return _read_safetensors(path)
    content = load_torch(path)
    found = [
        Checkpoint(path, state, keys, aside=tuple(left_aside(content, keys, state)))
        for keys, state in state_dicts(content).items()
    ]
    if not found:
        raise InputError(f"{one_line(path)}: is no state dict, tensors by name; {_shown(content)}")
    if weights is not None:
        chosen = [one for one in found if one.key == weights]
        chosen += [
            replace(one, prefix=f"{weights}.")
            for one in found
            if not chosen and any(name.startswith(f"{weights}.") for name in one.state)
        ]
        if not chosen:
            told = ", ".join(one_line(one.key) or "none above its tensors" for one in found[:8])
            meant = did_you_mean(weights, [one.key for one in found])
            raise InputError(
                f"--weights: {one_line(path)}: no state dict under {weights!r}{meant}; its keys are: {told}"
            )
        return chosen[0]
    found.sort(key=lambda one: -len(one.state))
    return replace(found[0], others=tuple(found[1:]))


def encode_checkpoint(path: Path, like: Checkpoint, state: Mapping[str, Tensor]) -> bytes:
    """The bytes of a checkpoint with `like`'s names, order and dtypes; safetensors if `path` says so, else torch's.

    Tensors of `like` that `state` does not have stay as they are.
    """
    typed = {name: state.get(name, old).detach().cpu().to(old.dtype).clone() for name, old in like.state.items()}
    if _is_safetensors(path):
        return _safetensors(path).save({name: value.contiguous() for name, value in typed.items()}, like.metadata)
    content: dict[str, Any] = typed
    for key in reversed(like.keys):
        content = {key: content}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def require_format(path: Path) -> None:
    """Raise InputError where a checkpoint could not be written under this name: safetensors is not installed."""
    if _is_safetensors(path):
        _safetensors(path)


def _shown(content: Any) -> str:
    """What a file without a state dict holds."""
    if isinstance(content, Mapping):
        told = ", ".join(f"{one_line(key)} ({type(value).__name__})" for key, value in list(content.items())[:6])
        return f"it holds {told or 'nothing'}; save network.state_dict()"
    return f"it holds a {type(content).__name__}; save network.state_dict()"


def _read_safetensors(path: Path) -> Checkpoint:
    _safetensors(path)
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            metadata = file.metadata()
    except Exception as error:  # SafetensorError, OSError
        raise InputError(f"{one_line(path)}: is no safetensors file ({one_line(error)})") from None
    return Checkpoint(path, state, metadata=metadata)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _safetensors(path: Path) -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise InputError(
            f"{one_line(path)}: needs the package safetensors: pip install 'rem-study[safetensors]'"
        ) from None
