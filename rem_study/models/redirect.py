"""True expansion of a trained network: new channels beside the old ones, switched by masks, and their erasure.

REM (arXiv 2505.17730) splits a network's channels into theta 1 (old) and theta 2 (new). Here theta 1 is the
trained network itself and theta 2 is added to it: each chosen layer gets more outputs, the layer behind it more
inputs. Through the old channels alone the network runs at its original width and cost.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rem_study.models.erased import ErasedNetwork
from rem_study.models.masks import EraseMode, Initialisation, sample_masks
from rem_study.models.mode import evaluating
from rem_study.models.path_statistics import PathStatistics, batch_norms
from rem_study.models.site import Site
from rem_study.models.wide_layers import BypassedNorm, Switch, WideLayer, WideNorm
from rem_study.seeds import derive_seed


class ExpandedNetwork(nn.Module):
    """A trained network (theta 1) with new channels (theta 2) at some of its sites.

    Args:
        network: the trained network; its modules are replaced in place, its parameters stay the same objects.
        sites: where to add channels.
        width: new channels of a site as a share of its own, rounded, at least one.
        initialisation: of the weights out of the new channels. `zero` keeps the network's function unchanged,
            `random` is the paper's.
        seed: of the new weights.
    """

    def __init__(
        self,
        network: nn.Module,
        sites: tuple[Site, ...],
        width: float,
        initialisation: Initialisation,
        seed: int,
    ):
        super().__init__()
        self.network = network
        self.statistics = PathStatistics(batch_norms(network))
        self._switch = Switch()
        self._replaced: dict[str, nn.Module] = {}
        self.site_names = tuple(site.name for site in sites)
        rng = torch.Generator().manual_seed(derive_seed("new channels", seed))
        for index, site in enumerate(sites):
            producer = self._widen(site.producer)
            producer.writes = index
            producer.masks_output = site.norm is None
            for number, name in enumerate(site.consumers):
                consumer = self._widen(name)
                consumer.reads, consumer.measures = index, number == 0
            for name in site.bypassed:
                layer_norm = network.get_submodule(name)
                if not isinstance(layer_norm, nn.LayerNorm) or len(layer_norm.normalized_shape) != 1:
                    raise ValueError(f"{name} is no layer norm over channels and cannot be bypassed")
                self._replace(name, BypassedNorm(layer_norm))
        own = [self._widen(site.producer).base.weight.shape[0] for site in sites]
        self.channels = tuple(max(1, round(width * channels)) for channels in own)
        for layer in self._layers():
            layer.initialise(
                0 if layer.reads is None else self.channels[layer.reads],
                0 if layer.writes is None else self.channels[layer.writes],
                initialisation,
                rng,
            )
        for index, site in enumerate(sites):
            if site.norm is not None:
                norm = network.get_submodule(site.norm)
                if not isinstance(norm, nn.BatchNorm2d):
                    raise ValueError(f"{site.norm} is no batch norm and cannot be widened")
                self._replace(site.norm, WideNorm(norm, self.channels[index], index, self._switch))

    def _widen(self, name: str) -> WideLayer:
        layer = self.network.get_submodule(name)
        if not isinstance(layer, WideLayer):
            if not isinstance(layer, (nn.Conv2d, nn.Linear)):
                raise ValueError(f"{name} is neither a convolution nor a linear layer and cannot be widened")
            layer = WideLayer(layer, self._switch)
            self._replace(name, layer)
        return layer

    def _replace(self, name: str, module: nn.Module) -> None:
        self._replaced[name] = self.network.get_submodule(name)
        module.train(self._replaced[name].training)
        self.network.set_submodule(name, module)

    def _layers(self) -> list[WideLayer]:
        return [module for module in self.network.modules() if isinstance(module, WideLayer)]

    @property
    def total_channels(self) -> int:
        """New channels of all sites together: the width of a mask."""
        return sum(self.channels)

    def draw_masks(self, ids: Tensor, density: float, seed: int) -> Tensor:
        """Which new channels each of the samples `ids` activates: see `sample_masks`."""
        return sample_masks(ids, self.total_channels, density, seed)

    def forward(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) to logits (B, K).

        Args:
            masks: (B, total_channels), what each new channel of each sample is multiplied by; None runs the old
                channels alone, at the original network's cost.
        """
        if masks is None:
            return self.network(x)
        self._switch.masks = masks.to(x.dtype).split(self.channels, dim=1)
        try:
            with self.statistics.of_both():
                return self.network(x)
        finally:
            self._switch.masks = None

    def new_parameters(self) -> list[nn.Parameter]:
        """The parameters that came with the expansion."""
        old = {id(p) for module in self._replaced.values() for p in module.parameters()}
        wide = [m for m in self.network.modules() if isinstance(m, (WideLayer, WideNorm))]
        return [p for module in wide for p in module.parameters() if id(p) not in old]

    def freeze_old_weights(self) -> None:
        """Let only the new channels and the normalisation layers move."""
        movable = {id(p) for p in self.new_parameters()}
        movable |= {id(p) for m in self.network.modules() if isinstance(m, _NORMS) for p in m.parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in movable)

    def estimate_statistics(self, batches: Iterable[Tensor]) -> None:
        """Set the batch norms' statistics for the old channels alone from `batches` of images (B, C, H, W)."""
        with evaluating(self):
            self.statistics.estimate(self, batches)

    @torch.no_grad()
    def mean_activations(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """Mean over samples and positions of what the new channels pass on, (channels,) a site.

        Args:
            batches: images (B, C, H, W) and their masks (B, total_channels).
        """
        device = next(self.network.parameters()).device
        self._switch.sums = [torch.zeros(n, device=device) for n in self.channels]
        seen = 0
        try:
            with evaluating(self):
                for images, masks in batches:
                    self(images, masks)
                    seen += len(images)
            return tuple(total / max(seen, 1) for total in self._switch.sums)
        finally:
            self._switch.sums = None

    def narrow(self) -> nn.Module:
        """Remove the new channels: the network with exactly its original modules, parameter names and shapes."""
        for name, module in self._replaced.items():
            module.train(self.network.get_submodule(name).training)
            self.network.set_submodule(name, module)
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        return self.network

    def erased(self, mode: EraseMode, density: float, means: tuple[Tensor, ...] | None = None) -> nn.Module:
        """The network with its new channels put out of use.

        Args:
            mode: `drop` and `anneal` remove them; `deactivate` keeps them, at zero; `attenuate` scales them by
                `density`, as in example-tied dropout's test mode (Maini et al. 2023); `mean` puts `means` (see
                `mean_activations`) in their place.
        """
        if mode in ("drop", "anneal"):
            return self.narrow()
        for parameter in self.new_parameters():
            parameter.requires_grad_(False)
        return self.kept(mode, density, means)

    def kept(self, mode: EraseMode, density: float, means: tuple[Tensor, ...] | None = None) -> ErasedNetwork:
        """A view of this network as `erased` would leave it, for the modes that keep the new channels."""
        return ErasedNetwork(self, mode, density, means)

    def run_erased(self, x: Tensor, scale: float, constants: tuple[Tensor, ...] | None) -> Tensor:
        """Logits (B, K) with every new channel times `scale`, or held at `constants`, (channels,) a site."""
        if scale == 0 and constants is None:
            return self(x)
        self._switch.constants = constants
        try:
            return self(x, torch.full((len(x), self.total_channels), scale, device=x.device))
        finally:
            self._switch.constants = None


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
