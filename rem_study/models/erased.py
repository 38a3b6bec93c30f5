"""What is left of a network whose redirect channels are put out of use but kept."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from rem_study.models.masks import EraseMode


class Erasable(Protocol):
    """A network (an `nn.Module`) that runs with its redirect channels fixed."""

    def run_erased(self, x: Tensor, scale: float, constants: tuple[Tensor, ...] | None) -> Tensor:
        """Logits (B, K) with every such channel times `scale`, or held at `constants`, (channels,) a site."""


class ErasedNetwork(nn.Module):
    """A network whose redirect channels, new or woken, are kept but fixed: scaled, or replaced by constants."""

    def __init__(
        self,
        expanded: Erasable,
        mode: EraseMode,
        density: float,
        means: tuple[Tensor, ...] | None,
    ):
        super().__init__()
        self.expanded = expanded
        self.scale = {"deactivate": 0.0, "attenuate": density, "mean": 1.0}[mode]
        self.constants = means if mode == "mean" else None

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.expanded.run_erased(x, self.scale, self.constants)
