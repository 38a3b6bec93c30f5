"""Checkpoints and data files of unknown origin: what they would unpack to, and whether their tensors are weights."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rem_study.errors import InputError

GIB = 2**30
DEFAULT_GIB = 4.0
_TAKEN = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


def check_size(path: Path, limit_gib: float) -> None:
    """Raise InputError where a file, or what its parts say that they unpack to, is larger than `limit_gib` GiB.

    `.pt` and `.npz` are ZIP archives; their directory is read, nothing is unpacked. A folder is not looked into.
    """
    if not path.is_file():
        return
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(part.file_size for part in archive.infolist()))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: is no sound archive ({' '.join(str(error).split())[:100]})") from None
    _check(path, size, limit_gib)


def check_tensors(path: Path, state: Mapping[str, Tensor], limit_gib: float) -> None:
    """Raise InputError naming the first tensor that is no plain array of numbers as networks have them, or where all of
    them together are larger than `limit_gib` GiB once each has memory of its own."""
    for name, value in state.items():
        wrong = None
        if value.layout is not torch.strided:
            wrong = f"is sparse ({str(value.layout).removeprefix('torch.')})"
        elif value.is_meta:
            wrong = "has no values (it is on the meta device)"
        elif value.is_quantized or value.dtype not in _TAKEN:
            wrong = f"is of type {str(value.dtype).removeprefix('torch.')}, which no network here has"
        if wrong:
            raise InputError(f"{path}: {name!r:.100} {wrong}")
    _check(path, sum(value.numel() * value.element_size() for value in state.values()), limit_gib)


def _check(path: Path, size: int, limit_gib: float) -> None:
    if size > limit_gib * GIB:
        raise InputError(f"{path}: holds {size / GIB:.1f} GiB, more than the {limit_gib:g} GiB of --max-size")
