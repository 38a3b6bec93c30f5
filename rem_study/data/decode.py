"""Encoded images (PNG, JPEG, ...) as arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rem_study.data.images import broken, reason, resize
from rem_study.errors import InputError
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line


@dataclass
class Taken:
    """How many images were taken otherwise than as they are; `notes` says so."""

    deep: int = 0
    palette: int = 0
    example: dict[str, str] = field(default_factory=dict)

    def count(self, what: str, place: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        self.example.setdefault(what, one_line(place))

    def notes(self, channels: int) -> list[str]:
        """A line each; none of palettes where the set has colours and they are images like the others."""
        lines = []
        if self.deep:
            more = f" and {self.deep - 1} more" if self.deep > 1 else ""
            lines.append(f"{self.example['deep']}{more}: 16 bits a channel, scaled to 8")
        if self.palette and channels == 1:
            more = f" and {self.palette - 1} more" if self.palette > 1 else ""
            lines.append(f"{self.example['palette']}{more}: palettes that hold grey alone, read as one channel")
        return lines


def decoded(encoded: Iterable[tuple[str, object]], spec: DataSpec, taken: Taken) -> np.ndarray:
    """Encoded images, each after its place, as uint8 (N, C, H, W); grey only where all of them are.

    16 bits a channel are scaled to 8; a palette of greys alone is grey. `taken` counts both.

    Raises:
        InputError: naming the place of what is no image, or of one whose size differs though none is asked for.
    """
    pixels: list[np.ndarray] = []
    for place, content in encoded:
        if not isinstance(content, bytes):
            raise broken(place, "holds no encoded image (PNG, JPEG, ...)")
        array = _decode(place, content, taken)
        if spec.image_size is not None:
            array = resize(torch.from_numpy(np.ascontiguousarray(array))[None], spec.image_size)[0].numpy()
        if pixels and array.shape[1:] != pixels[0].shape[1:]:
            raise InputError(
                f"data.image_size: {one_line(place)}: images differ in size; say to which they are to be resized"
            )
        pixels.append(array)
    channels = max((array.shape[0] for array in pixels), default=1)
    return (
        np.stack([np.broadcast_to(a, (channels, *a.shape[1:])) for a in pixels]) if pixels else np.empty((0, 1, 1, 1))
    )


def _decode(place: str, content: bytes, taken: Taken) -> np.ndarray:
    """uint8 (C, H, W)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode[0] in "IF":
                return _from_16_bits(place, image, taken)
            grey = image.mode in ("1", "L", "LA")
            if image.mode in ("P", "PA") and _is_grey(image):
                taken.count("palette", place)
                grey = True
            array = np.array(image.convert("RGB") if image.mode in ("P", "PA") or not grey else image.convert("L"))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise broken(place, f"cannot identify image file{_guess(content)}") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError, ...
        raise broken(place, reason(error)) from None
    if array.ndim == 3 and grey:
        array = array[..., 0]
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _from_16_bits(place: str, image: Any, taken: Taken) -> np.ndarray:
    values = np.array(image)
    if image.mode[0] == "F" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise broken(place, "has more than 16 bits a channel, or fractions; save it with 8 or 16")
    taken.count("deep", place)
    return np.round(values / 257).astype(np.uint8)[None]


def _is_grey(image: Any) -> bool:
    """Whether every pixel of a palette image has a grey of it."""
    colours = np.array(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all())


def _guess(content: bytes) -> str:
    if not content:
        return ": it is empty"
    start = content[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return ": it holds a web page or other markup, perhaps a failed download"
    if start.startswith(b"version https://git-lfs"):
        return ": it is a pointer of Git LFS (git lfs pull)"
    return ""
