"""A user's checkpoint: read without running what it holds, fitted to an architecture, written back under its names."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rem_study.errors import InputError

NESTED_UNDER = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict among other things; the other things are not kept."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's file holds.

    Attributes:
        state: its tensors by name, on the CPU; treat as read-only.
        nested_under: the key below which they stood, if any.
        metadata: of a safetensors file.
    """

    path: Path
    state: dict[str, Tensor]
    nested_under: str | None = None
    metadata: dict[str, str] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """A safetensors file (by its suffix), or a state dict that `torch.load` opens with `weights_only`.

    Raises:
        InputError: the file is missing or holds anything but named tensors, or safetensors is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _read_safetensors(path) if _is_safetensors(path) else _read_state_dict(path)


def encode_checkpoint(path: Path, like: Checkpoint, state: Mapping[str, Tensor]) -> bytes:
    """The bytes of a checkpoint with `like`'s names, order and dtypes; safetensors if `path` says so, else torch's."""
    typed = {name: state[name].detach().cpu().to(old.dtype).clone() for name, old in like.state.items()}
    if _is_safetensors(path):
        return _safetensors(path).save({name: value.contiguous() for name, value in typed.items()}, like.metadata)
    buffer = io.BytesIO()
    torch.save({like.nested_under: typed} if like.nested_under else typed, buffer)
    return buffer.getvalue()


def require_format(path: Path) -> None:
    """Raise InputError where a checkpoint could not be written under this name: safetensors is not installed."""
    if _is_safetensors(path):
        _safetensors(path)


def name_prefix(checkpoint: Checkpoint, network: nn.Module, what: str) -> str:
    """What stands before the network's own names in the checkpoint: nothing, or `module.` and the like.

    Args:
        what: how messages call the network.

    Raises:
        InputError: the names or shapes are not those of `network`.
    """
    state, wanted = checkpoint.state, network.state_dict()
    first = next(iter(wanted), "")
    prefixes = ["", *(name.removesuffix(first) for name in state if name.endswith(f".{first}"))]
    prefix = max(prefixes, key=lambda p: sum(p + name in state for name in wanted))
    missing = [prefix + name for name in wanted if prefix + name not in state]
    unknown = [name for name in state if name.removeprefix(prefix) not in wanted or not name.startswith(prefix)]
    wrong = [
        f"{prefix + name} is {_shape(state[prefix + name])}, not {_shape(value)}"
        for name, value in wanted.items()
        if prefix + name in state and state[prefix + name].shape != value.shape
    ]
    told = [_list("it lacks", missing), _list("it has besides", unknown), _list("", wrong)]
    if any(told):
        raise InputError(f"{checkpoint.path}: does not fit {what}: {'; '.join(filter(None, told))}")
    return prefix


def load_into(network: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Put the checkpoint's values into `network`, whose names stand behind `prefix` in it."""
    network.load_state_dict({name.removeprefix(prefix): value for name, value in checkpoint.state.items()})


def _read_state_dict(path: Path) -> Checkpoint:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ... and whatever a damaged pickle raises
        raise InputError(
            f"{path}: torch.load cannot open it with weights_only=True ({type(error).__name__}); "
            "save network.state_dict() alone"
        ) from None
    nested = next((key for key in NESTED_UNDER if isinstance(content, dict) and _is_state(content.get(key))), None)
    state = content if nested is None else content[nested]
    if not _is_state(state):
        raise InputError(f"{path}: is no state dict, tensors by name; save network.state_dict()")
    return Checkpoint(path, dict(state), nested)


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _read_safetensors(path: Path) -> Checkpoint:
    _safetensors(path)
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            metadata = file.metadata()
    except Exception as error:  # SafetensorError, OSError
        raise InputError(f"{path}: is no safetensors file ({' '.join(str(error).split())})") from None
    return Checkpoint(path, state, metadata=metadata)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _safetensors(path: Path) -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise InputError(f"{path}: needs the package safetensors: pip install 'rem-study[safetensors]'") from None


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"


def _list(intro: str, items: list[str]) -> str:
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{intro} {items[0]}{more}".strip() if items else ""
