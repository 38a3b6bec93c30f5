"""What the benchmarks share: the machine's name, the digits task, and timing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from rem_study.trial.originals import OriginalStore

ROOT = Path(__file__).parent.parent

Result = TypeVar("Result")


def machine() -> str:
    """Processor, threads and PyTorch's version."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    load = os.getloadavg()[0]
    threads = torch.get_num_threads()
    return f"{cpu}, {os.cpu_count()} CPUs (load {load:.1f}), {threads} threads, torch {torch.__version__}{device}"


def originals() -> OriginalStore:
    """A store that benchmarks share, so that originals are trained once."""
    return OriginalStore(ROOT / "runs" / "originals")


def seconds_of(run: Callable[[], Result]) -> tuple[float, Result]:
    """Wall time of one call, the device's queue drained before and after, and what it returned."""
    _wait()
    start = time.perf_counter()
    result = run()
    _wait()
    return time.perf_counter() - start, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
