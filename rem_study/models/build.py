"""Classifiers by name."""

from __future__ import annotations

import torch
from torch import nn

from rem_study.models.resnet9 import ResNet9
from rem_study.models.vit import ViT
from rem_study.spec.model import ModelSpec, TimmSpec, TorchvisionSpec, VitSpec


def build_model(spec: ModelSpec, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights, global random state untouched.

    Args:
        image_shape: channels, height, width.

    Raises:
        InputError: the network cannot take such images.
    """
    channels, size, _ = image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(spec, TorchvisionSpec):
            from rem_study.models.torchvision_model import TorchvisionModel

            name = spec.name.removeprefix("torchvision/")
            return TorchvisionModel(name, image_shape, num_classes, spec.small_input)
        if isinstance(spec, TimmSpec):
            from rem_study.models.timm_model import timm_model

            return timm_model(spec.name.removeprefix("timm/"), image_shape, num_classes)
        if isinstance(spec, VitSpec):
            return ViT(channels, size, num_classes, spec.width, spec.depth, spec.patch_size)
        return ResNet9(channels, num_classes, spec.width)
