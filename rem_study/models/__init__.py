"""Classifiers by name."""

from __future__ import annotations

import torch
from torch import nn

from rem_study.models.resnet9 import ResNet9
from rem_study.spec import ModelSpec


def build_model(spec: ModelSpec, in_channels: int, num_classes: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights, global random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet9(in_channels, num_classes, spec.width)
