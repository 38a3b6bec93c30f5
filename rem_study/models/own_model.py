"""A network that somebody brings along, as the methods need to see it."""

from __future__ import annotations

from torch import Tensor, fx, nn

from rem_study.errors import InputError
from rem_study.models.obstacles import obstacles
from rem_study.models.resnet9 import ResNet9
from rem_study.models.site import Site
from rem_study.models.torchvision_model import TorchvisionModel, chain_sites, parameter_blocks
from rem_study.models.vit import ViT


class OwnModel(nn.Module):
    """Any classifier, images (B, C, H, W) to logits (B, K), as `network`; blocks and sites are found by structure.

    Of several outputs the one called `logits` counts: Hugging Face's classifiers give it among others, torchvision's
    GoogLeNet and Inception beside those of their auxiliary classifiers while they train.

    Args:
        image_shape: channels, height, width of the images that it is for.
    """

    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int]):
        super().__init__()
        self.network = network
        self._image_shape = image_shape

    def forward(self, x: Tensor) -> Tensor:
        given = self.network(x)
        if not isinstance(given, (Tensor, fx.Proxy)):
            given = getattr(given, "logits", given)
        return given

    def blocks(self) -> tuple[str, ...]:
        """See `parameter_blocks`."""
        return tuple(parameter_blocks(self.network, "network."))

    def sites(self) -> tuple[Site, ...]:
        """See `chain_sites`. Raises InputError where there is no such place, or the network cannot be traced."""
        sites = chain_sites(self, self._image_shape)
        if not sites:
            name, why = type(self.network).__name__, obstacles(self, self._image_shape)
            raise InputError(f"model: REM finds no place for new channels in {name}: {why}")
        return sites


def has_sites(network: nn.Module) -> bool:
    """Whether a network says by itself where it can be widened."""
    return isinstance(network, (ResNet9, ViT, TorchvisionModel, OwnModel))


def with_sites(network: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    """`network` itself where it `has_sites`, else wrapped in an `OwnModel` for images (C, H, W)."""
    return network if has_sites(network) else OwnModel(network, image_shape)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network as its author wrote it: without an `OwnModel` or `TorchvisionModel` around it."""
    return network.network if isinstance(network, (TorchvisionModel, OwnModel)) else network
