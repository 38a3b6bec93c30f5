"""A part's images made by all cores, in order and a few at a time, into memory or into a file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from torch import Tensor

from rem_study.data.images import Job, Some, StoredPart, Taken, differing
from rem_study.shown import LiveLine


class Target(Protocol):
    """Where images (n, C, H, W) go, one lot after another."""

    def add(self, images: np.ndarray) -> None:
        """Append; C, H and W are those of the lot before."""

    def widen(self, channels: int) -> None:
        """Repeat the one channel of all images that are there."""


class InMemory:
    """Keeps them."""

    def __init__(self) -> None:
        self._lots: list[np.ndarray] = []

    def add(self, images: np.ndarray) -> None:
        """See `Target`."""
        self._lots.append(images)

    def widen(self, channels: int) -> None:
        """See `Target`."""
        self._lots = [_repeated(images, channels) for images in self._lots]

    def array(self) -> np.ndarray:
        """All of them, uint8 (N, C, H, W)."""
        return np.concatenate(self._lots)


class PixelFile:
    """Writes a .npy file of `count` images; what is in it is not held in memory."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._file: IO[bytes] | None = None
        self._shape: tuple[int, ...] = ()

    def add(self, images: np.ndarray) -> None:
        """See `Target`. Raises OSError."""
        if self._file is None:
            self._file = self._begin(self._path, images.shape[1:])
        self._file.write(np.ascontiguousarray(images).data)

    def widen(self, channels: int) -> None:
        """See `Target`: the file is written anew. Raises OSError."""
        if self._file is None:
            return
        self._file.close()
        before, shape = self._path.with_suffix(".grey"), self._shape
        os.replace(self._path, before)
        self._file = self._begin(self._path, (channels, *shape[1:]))
        with open(before, "rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while content := file.read(int(np.prod(shape)) * 64):
                self.add(_repeated(np.frombuffer(content, np.uint8).reshape(-1, *shape), channels))
        before.unlink()

    def close(self) -> None:
        """The file is on the disk then. Raises OSError."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _begin(self, path: Path, shape: tuple[int, ...]) -> IO[bytes]:
        self._shape = shape
        file = open(path, "wb", buffering=2**20)  # noqa: SIM115
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        return file


def _repeated(images: np.ndarray, channels: int) -> np.ndarray:
    return np.broadcast_to(images, (len(images), channels, *images.shape[2:]))


def gather(
    part: StoredPart, kept: Tensor | None, target: Target, line: LiveLine | None = None
) -> tuple[tuple[int, ...], Taken]:
    """Put the images of `part`, those at the places `kept` if given, into `target`; grey only where all images are.

    Args:
        line: shows how many are made.

    Returns:
        the images' shape (C, H, W), and what was taken otherwise than as it is.

    Raises:
        InputError: an image is none, or of another size than those before it.
    """
    wanted = np.ones(part.count, dtype=bool)
    if kept is not None:
        wanted[:] = False
        wanted[kept.numpy()] = True
    taken, made = Taken(), 0
    shape: tuple[int, ...] = ()
    for some in in_order(part.jobs()):
        images, channels = some.images, some.images.shape[1]
        if made and images.shape[2:] != shape[1:]:
            raise differing(some.place)
        if made and channels > shape[0]:
            target.widen(channels)
        shape = (max(channels, shape[0]) if made else channels, *images.shape[2:])
        chosen = images[wanted[made : made + len(images)]]
        if len(chosen):
            target.add(_repeated(chosen, shape[0]))
        made += len(images)
        taken.add(some.taken)
        if line is not None:
            line.count(len(images))
    return shape, taken


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(jobs: Iterator[Job]) -> Iterator[Some]:
    """What the jobs make, in their order, by as many threads as there are cores: reading, decoding and resizing let go
    of Python's lock. Few jobs are under way or waiting to be taken, however many there are."""
    threads = cores()
    before = torch.get_num_threads()
    waiting: deque[Future[Some]] = deque()
    pool = ThreadPoolExecutor(threads, "rem-study-decode", initializer=lambda: torch.set_num_threads(1))
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the threads' own number is the process's in parts
