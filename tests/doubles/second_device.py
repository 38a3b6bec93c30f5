"""A stand-in for an accelerator, where there is none: whole trials on tensors that say they are on another device.

Their values are on the CPU and are computed there, so results must be those of the CPU, bit for bit. An operation that
mixes the devices is an error, as on an accelerator, and whatever would make the CPU wait for an accelerator's queue
is noted, with the functions it came from.

    python second_device.py CASES.json      a JSON object of cases by name to a JSON object of outcomes by name

A process of its own: PyTorch can be taught a device once, before anything is computed.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten

COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
READ_BACK = (
    *(aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default),
    *(aten.bincount.default, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default),
    *(aten.repeat_interleave.Tensor, aten.isin.Tensor_Tensor),
)
"""What must know values, or the size of its result, before it returns."""


class Elsewhere(torch.Tensor):
    """A tensor that says it is on the second device; `held` has its values, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=torch.device("second", 0)
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return MACHINE.compute(func, args, kwargs or {})


class Machine(TorchDispatchMode):
    """Every operation passes through it. `waits` has, for each wait, the names of the functions that led to it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[list[str]] = []
        self._pinned: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is aten.is_pinned.default:
            return id(args[0]) in self._pinned
        if func is aten._pin_memory.default:
            pinned = args[0].clone()
            self._pinned[id(pinned)] = pinned
            return pinned
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        there = {id(each.held): each for each in tensors if isinstance(each, Elsewhere)}
        device = kwargs.get("device")
        result_there = bool(there) if device is None else torch.device(device).type == "second"
        self._judge(func, args, kwargs, tensors, bool(there), result_there)
        if device is not None:
            kwargs = kwargs | {"device": "cpu"}
        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not result_there:
            return result
        result = tree_map(lambda each: _moved(each, there), result)
        return return_and_correct_aliasing(func, args, kwargs, result) if there else result

    def _judge(self, func: Any, args: Any, kwargs: Any, tensors: Any, any_there: bool, result_there: bool) -> None:
        """Note a wait; raise RuntimeError where devices are mixed."""
        here = [each for each in tensors if not isinstance(each, Elsewhere)]
        if func in COPIES:
            source = args[0] if func is COPIES[0] else args[1]
            goes_there = result_there if func is COPIES[0] else isinstance(args[0], Elsewhere)
            if isinstance(source, Elsewhere) == goes_there:
                return
            if not (goes_there and id(source) in self._pinned and kwargs.get("non_blocking")):
                self._note(func)
        elif not any_there:
            return
        elif func in INDEXING and isinstance(args[0], Elsewhere):
            indices = [each for each in args[1] if each is not None]
            if any(each.dtype == torch.bool or not isinstance(each, Elsewhere) for each in indices):
                self._note(func)
        elif any(each.ndim for each in here):  # numbers may come from the CPU
            raise RuntimeError(f"{func} on tensors of two devices")
        elif func in READ_BACK:
            self._note(func)

    def _note(self, func: Any) -> None:
        frame, names = sys._getframe(), [str(func)]
        while frame is not None:
            if "rem_study" in frame.f_code.co_filename:
                names.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
            frame = frame.f_back
        self.waits.append(names)


def _moved(value: Any, known: dict[int, Elsewhere]) -> Any:
    """`value` as seen from outside: an operation in place gives back the tensor that it changed."""
    if not isinstance(value, torch.Tensor):
        return value
    return known[id(value)] if id(value) in known else Elsewhere(value)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


MACHINE = Machine()


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """One trial on the CPU and on the second device, originals and all: their rows, and the waits of the second.

    `memory`: bytes that the second device has; images that are too large for it stay on the CPU (`images_on`).
    """
    from tiny import TINY

    from rem_study.data import dataset
    from rem_study.spec.resolve import resolve
    from rem_study.spec.space import load_space
    from rem_study.trial import trial
    from rem_study.trial.cell_cache import CellCaches
    from rem_study.trial.originals import OriginalStore

    spec = resolve(copy.deepcopy(TINY) | case["study"] | {"methods": [case["method"]]}, "tiny.yaml", Path()).spec
    configuration = load_space(case["method"]).defaults | case["configuration"]

    def run(device: str) -> dict[str, Any]:
        trial._CELL_CACHES = CellCaches(limit=2**30)
        with tempfile.TemporaryDirectory() as folder:
            store = OriginalStore(Path(folder))
            job = trial.Trial(trial.cells_of(spec)[0], case["method"], configuration, 0)
            row = trial.run_trial(spec, job, store, device)
        return {name: value for name, value in row.items() if name != "seconds"}

    dataset.memory_of = lambda device: case.get("memory", math.inf)
    dataset._load.cache_clear()
    expected = run("cpu")
    MACHINE.waits.clear()
    with MACHINE:
        found = run("second")
        images = dataset.load_dataset(spec.data, "second", spec.resources.data_share).train_images
    return {"cpu": expected, "second": found, "waits": MACHINE.waits.copy(), "images_on": images.device.type}


def main() -> None:
    _setup_privateuseone_for_python_backend("second")
    torch.set_num_threads(1)
    cases = json.loads(Path(sys.argv[1]).read_text())
    outcomes = {}
    for name, case in cases.items():
        try:
            outcomes[name] = run_case(case)
        except Exception as error:
            outcomes[name] = {"error": f"{type(error).__name__}: {error}"}
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
