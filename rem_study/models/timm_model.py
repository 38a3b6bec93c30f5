"""Any of timm's classifiers, by name."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from rem_study.errors import InputError, did_you_mean
from rem_study.models.own_model import OwnModel
from rem_study.spec.yaml_file import one_line


def timm_model(name: str, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A classifier of timm, newly initialised, for images (C, H, W): `resnet18`, `convnext_tiny`, ...

    Raises:
        InputError: timm is not installed, has no such classifier, or it cannot take such images.
    """
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"model.name: timm has no classifier {name!r}{did_you_mean(name, timm.list_models())}")
    options: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, "in_chans": image_shape[0]}
    try:
        try:  # transformers are made for one size of image; others do not know the word
            network = timm.create_model(name, img_size=image_shape[1:], **options)
        except TypeError:
            network = timm.create_model(name, **options)
        network.eval()
        with torch.no_grad():
            network(torch.zeros(2, *image_shape))
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = " x ".join(map(str, image_shape))
        told = one_line(error)[:200]
        raise InputError(f"model.name: timm/{name} cannot take images of {shape} pixels: {told}") from error
    return OwnModel(network.train(), image_shape)


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        why = "" if getattr(error, "name", "timm") == "timm" else f" ({one_line(error)})"
        raise InputError(
            f"model.name: timm's networks need the package timm{why}: pip install 'rem-study[timm]'"
        ) from None
