"""Training steps through PyTorch's compiler, where a study asks for it (`compile`).

A step is a function of tensors, compiled as one graph; a graph break is an error. The first dimension of each of its
inputs (batches, the places of REM's forget samples in one) may take any size, so that a step is compiled once for each
network shape and number of channels, not for each batch, epoch or trial. A size of 0 or 1 is a case of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rem_study.spec.original import Compile

Step = Callable[..., Tensor]
"""Tensors, or frozen dataclasses of tensors, to a scalar loss."""

_AS_WITHOUT = {
    "fallback_random": True,  # dropout draws what it draws without compiling
    "emulate_precision_casts": True,  # and bfloat16 is rounded where it is rounded without
}
OPTIONS: dict[Compile, dict[str, Any]] = {
    "default": {"options": _AS_WITHOUT},
    "graphs": {
        "options": {
            **_AS_WITHOUT,
            "triton.cudagraphs": True,
            "triton.cudagraph_unexpected_rerecord_limit": 1_000_000,  # each trial has a network of its own
        }
    },
}
"""How `torch.compile` is called."""

_LIMITS = {"recompile_limit": 1_000_000, "accumulated_recompile_limit": 1_000_000}
"""Of graphs of one step: a process meets as many as a study's configurations have shapes."""

_mode: ContextVar[Compile] = ContextVar("compile", default="none")


@contextmanager
def compiling(mode: Compile) -> Iterator[None]:
    """Inside, `compiled` makes steps as `mode` says."""
    before = _mode.set(mode)
    try:
        if mode == "none":
            yield
        else:
            with torch._dynamo.config.patch(_LIMITS), _CLOCK:
                yield
    finally:
        _mode.reset(before)


def compiled(step: Step) -> Step:
    """`step` as the study's `compile` has it: itself, or one graph.

    Raises (when called):
        torch._dynamo.exc.Unsupported: it cannot be one graph.
    """
    mode = _mode.get()
    if mode == "none":
        return step
    graph = torch.compile(step, fullgraph=True, **OPTIONS[mode])

    def run(*inputs: object) -> Tensor:
        for tensor in _tensors(inputs):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        if mode == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        return graph(*inputs)

    return run


def _tensors(inputs: tuple[object, ...]) -> Iterator[Tensor]:
    for value in inputs:
        if isinstance(value, Tensor):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _tensors(tuple(vars(value).values()))


def compile_seconds() -> float:
    """Wall time that this process has spent compiling."""
    return _CLOCK.total


def keep_compiled_in(folder: Path, processes: int) -> None:
    """Have this process keep compiled code in a part of `folder` for machines like this one, and compile with so many
    processes.

    Call it before anything is compiled. Compiled code uses whatever instructions the processor has.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / _kind_of_machine())
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(processes))


class _Clock:
    """The wall time between the compiler's calls at its start and end, while entered."""

    def __init__(self) -> None:
        self.total = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        handler = _callback_handler()
        handler.register_start_callback(self._begin)
        handler.register_end_callback(self._end)

    def __exit__(self, *_: object) -> None:
        handler = _callback_handler()
        handler.remove_start_callback(self._begin)
        handler.remove_end_callback(self._end)

    def _begin(self, _: object) -> None:
        self._began = time.perf_counter()

    def _end(self, _: object) -> None:
        self.total += time.perf_counter() - self._began


_CLOCK = _Clock()


def _callback_handler() -> Any:
    """Of the compiler, which is imported where something is compiled: that takes over a second and 150 MiB."""
    from torch._dynamo.callback import callback_handler

    return callback_handler


def _kind_of_machine() -> str:
    """A name for processors of one model and PyTorch of one version; compiled code is for nothing else."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    said = "\n".join([platform.machine(), platform.processor(), torch.__version__, *told])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
