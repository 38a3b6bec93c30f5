"""Encoded images (PNG, JPEG, ...) as arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from rem_study.data.images import Some, Taken, broken, differing, reason, resize
from rem_study.errors import InputError
from rem_study.spec import DataSpec


def decoded(encoded: Iterable[tuple[str, object]], spec: DataSpec) -> Some:
    """Encoded images, each after its place, as arrays; grey only where all of them are.

    16 bits a channel are scaled to 8; a palette of greys alone is grey. `taken` counts both.

    Raises:
        InputError: naming the place of what is no image, or of one whose size differs though none is asked for.
    """
    pixels: list[np.ndarray] = []
    first, taken = "", Taken()
    for place, content in encoded:
        if not isinstance(content, bytes):
            raise broken(place, "holds no encoded image (PNG, JPEG, ...)")
        array = _decode(place, content, taken)
        if spec.image_size is not None:
            array = resize(torch.from_numpy(np.ascontiguousarray(array))[None], spec.image_size)[0].numpy()
        if pixels and array.shape[1:] != pixels[0].shape[1:]:
            raise differing(place)
        first = first or place
        pixels.append(array)
    channels = max(array.shape[0] for array in pixels)
    return Some(np.stack([np.broadcast_to(a, (channels, *a.shape[1:])) for a in pixels]), first, taken)


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
            mode = "RGB" if image.mode in ("P", "PA") or not grey else "L"
            bands = (image if image.mode == mode else image.convert(mode)).split()
            array = np.stack([np.asarray(band) for band in bands])
    except InputError:
        raise
    except UnidentifiedImageError:
        raise broken(place, f"cannot identify image file{_guess(content)}") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError, ...
        raise broken(place, reason(error)) from None
    return array[:1] if grey else array


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
