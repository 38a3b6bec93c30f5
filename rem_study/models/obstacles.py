"""Why REM finds no place for new channels in somebody's own network, and what can be done all the same."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from rem_study.errors import InputError
from rem_study.models.graph import module_graph
from rem_study.spec import load_space
from rem_study.spec.space import known_methods
from rem_study.spec.yaml_file import one_line

_TORCH, _HERE = (str(Path(file).parent) for file in (torch.__file__, __file__))


def obstacles(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """One line: the part of `model.network`, for images (C, H, W), that stands in REM's way, and the methods that need
    no place in it."""
    methods = [name for name in methods_without_sites() if name not in NEED_PLAIN or not _reparametrised(model)]
    return f"{_reason(model, image_shape)}; methods that need none: {', '.join(methods)}"


def require_plain(network: nn.Module, method: str) -> None:
    """Raise InputError where a layer's weight is made from other parameters, and `method` changes the weight itself."""
    if made := _reparametrised(network):
        name, what = made[0]
        own = one_line(name.removeprefix("network."))
        raise InputError(f"method: {method} changes layers' weights themselves; that of {own} is made by {what}")


NEED_PLAIN = ("msg", "sap")
"""Methods that call `require_plain`."""


def methods_without_sites() -> list[str]:
    """The methods that have no layers to choose, by name."""
    return [
        name for name in known_methods() if name != "etd_drop" and "layer_position" not in load_space(name).parameters
    ]


def _reparametrised(network: nn.Module) -> list[tuple[str, str]]:
    """Names of layers whose weight is made from other parameters, each with what makes it."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    return [(name, what) for name, module in layers if (what := made_by(module))]


def made_by(module: nn.Module) -> str | None:
    """What makes a layer's weight out of other parameters, `weight norm` say; None for a plain layer."""
    if parametrize.is_parametrized(module, "weight"):
        steps: Any = getattr(module.parametrizations, "weight")  # noqa: B009 - mypy takes it for a tensor
        return _spaced(type(steps[0]).__name__.strip("_"))
    own = set(module._parameters)
    if "weight_orig" in own:
        return "pruning" if "weight_mask" in module._buffers else "spectral norm"
    if "weight_g" in own:
        return "weight norm"
    hooks = getattr(module, "_forward_pre_hooks", {})
    return "a hook before its forward" if hooks and "weight" not in own else None


def _spaced(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _reason(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    try:
        module_graph(model, image_shape)
    except Exception as error:  # whatever the network's own code raises when it meets a proxy
        return f"torch.fx cannot trace it: {_where(error)}"
    if made := _reparametrised(model):
        name, what = made[0]
        more = f" and of {len(made) - 1} more" if len(made) > 1 else ""
        own = one_line(name.removeprefix("network."))
        return f"the weight of {own}{more} of its layers is made by {what}, and cannot grow"
    return "no convolution or linear layer feeds one other alone (with a batch norm, activations, pooling between)"


def _where(error: Exception) -> str:
    """The line of the network's own code that tracing stopped at, and why."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((_TORCH, _HERE))]
    why = one_line(error).split(". ")[0][:160] or type(error).__name__
    if not own:
        return why
    frame = own[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: `{one_line(frame.line)[:80]}` ({why})"
