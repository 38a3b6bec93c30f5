"""A network that somebody brings along, as the methods need to see it."""

from __future__ import annotations

from torch import Tensor, nn

from rem_study.errors import InputError
from rem_study.models.obstacles import obstacles
from rem_study.models.resnet9 import ResNet9
from rem_study.models.site import Site
from rem_study.models.torchvision_model import TorchvisionModel, chain_sites, parameter_blocks
from rem_study.models.vit import ViT


class OwnModel(nn.Module):
    """Any classifier, images (B, C, H, W) to logits (B, K), as `network`; blocks and sites are found by structure."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def blocks(self) -> tuple[str, ...]:
        """See `parameter_blocks`."""
        return tuple(parameter_blocks(self.network, "network."))

    def sites(self) -> tuple[Site, ...]:
        """See `chain_sites`. Raises InputError where there is no such place, or the network cannot be traced."""
        sites = chain_sites(self.network, "network.")
        if not sites:
            name = type(self.network).__name__
            raise InputError(f"model: REM finds no place for new channels in {name}: {obstacles(self.network)}")
        return sites


def with_sites(network: nn.Module) -> nn.Module:
    """`network` itself where it says by itself where it can be widened, else wrapped in an `OwnModel`."""
    return network if isinstance(network, (ResNet9, ViT, TorchvisionModel, OwnModel)) else OwnModel(network)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network as its author wrote it: without an `OwnModel` or `TorchvisionModel` around it."""
    return network.network if isinstance(network, (TorchvisionModel, OwnModel)) else network
