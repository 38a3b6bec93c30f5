"""True expansion of a trained network: new channels beside the old ones, switched by masks, and their erasure.

REM (arXiv 2505.17730) splits a network's channels into theta 1 (old) and theta 2 (new). Here theta 1 is the
trained network itself and theta 2 is added to it: each chosen layer gets more outputs, the layer behind it more
inputs. Through the old channels alone the network runs at its original width and cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.models.mode import evaluating
from rem_study.models.path_statistics import PathStatistics, batch_norms
from rem_study.models.site import Site
from rem_study.seeds import derive_seed

if TYPE_CHECKING:
    from rem_study.models.split import SplitNetwork

EraseMode = Literal["drop", "deactivate", "attenuate", "mean", "anneal"]
Initialisation = Literal["zero", "random"]

SHARED_ID = -1
"""The sample id whose mask the forget set shares."""


def sample_masks(ids: Tensor, channels: int, density: float, seed: int) -> Tensor:
    """Which new channels each sample activates: bool (len(ids), channels), True with probability `density`.

    A bit depends on its sample's id, its channel and `seed` alone (splitmix64 of the three), so a sample keeps its
    mask whatever the batch, the machine or the size of the data set, and no random state is touched. It is computed on
    the device of `ids`.
    """
    rows = _splitmix64(ids ^ seed)
    columns = _splitmix64(torch.arange(channels, device=ids.device))
    threshold = math.ceil(density * 2**53)

    def of(part: Tensor) -> Tensor:
        return _unsigned_shift(_splitmix64(part[:, None] ^ columns), 11) < threshold

    return torch.cat([of(part) for part in rows.split(_AT_ONCE)])


_AT_ONCE = 512
"""Samples whose masks are drawn together: as many as a processor's cache holds the numbers of."""


def _splitmix64(x: Tensor) -> Tensor:
    """Vigna's splitmix64 of int64 taken as bits: sums and products wrap around as unsigned ones do."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _unsigned_shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _unsigned_shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _unsigned_shift(x, 31)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _unsigned_shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & (2 ** (64 - by) - 1)


class _Switch:
    """What the widened layers of one network share: this forward pass's masks, one (B, channels) tensor a site."""

    def __init__(self) -> None:
        self.masks: tuple[Tensor, ...] | None = None
        self.constants: tuple[Tensor, ...] | None = None
        self.sums: list[Tensor] | None = None


class _WideLayer(nn.Module):
    """A convolution or linear layer with more inputs (those of `reads`) and more outputs (those of `writes`)."""

    def __init__(self, base: nn.Conv2d | nn.Linear, switch: _Switch):
        super().__init__()
        if isinstance(base, nn.Conv2d) and (base.groups != 1 or base.padding_mode != "zeros"):
            raise ValueError("only plain convolutions (one group, zero padding) can be widened")
        self.base = base
        self.switch = switch
        self.reads: int | None = None
        self.measures = False
        self.writes: int | None = None
        self.masks_output = False
        self.from_new: nn.Parameter | None = None
        self.new_weight: nn.Parameter | None = None
        self.new_bias: nn.Parameter | None = None

    def initialise(self, new_inputs: int, new_outputs: int, outgoing: Initialisation, rng: torch.Generator) -> None:
        """Add the weights: uniform within 1/sqrt(fan-in), PyTorch's default; those out of new channels as asked."""
        weight = self.base.weight
        kernel = weight.shape[2:]
        inputs = weight.shape[1] + new_inputs
        bound = (inputs * kernel.numel()) ** -0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(((torch.rand(shape, generator=rng) * 2 - 1) * bound).to(weight))

        if new_inputs:
            self.from_new = uniform(weight.shape[0], new_inputs, *kernel)
            if outgoing == "zero":
                nn.init.zeros_(self.from_new)
        if new_outputs:
            self.new_weight = uniform(new_outputs, inputs, *kernel)
            self.new_bias = uniform(new_outputs) if self.base.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        masks = self.switch.masks
        if masks is None:
            return self.base(x)
        weight, bias = self.base.weight, self.base.bias
        if self.from_new is not None and self.reads is not None:
            x = self._read(x, self.reads)
            weight = torch.cat([weight, self.from_new], dim=1)
        if self.new_weight is not None:
            weight = torch.cat([weight, self.new_weight], dim=0)
            bias = torch.cat([bias, self.new_bias]) if bias is not None and self.new_bias is not None else None
        if isinstance(self.base, nn.Conv2d):
            out = F.conv2d(x, weight, bias, self.base.stride, self.base.padding, self.base.dilation)
        else:
            out = F.linear(x, weight, bias)
        if self.masks_output and self.writes is not None:
            old = self.base.weight.shape[0]
            dim = 1 if isinstance(self.base, nn.Conv2d) else -1
            out = _masked(out, old, masks[self.writes], dim)
        return out

    def _read(self, x: Tensor, site: int) -> Tensor:
        channel_dim = 1 if isinstance(self.base, nn.Conv2d) else x.ndim - 1
        old = self.base.weight.shape[1]
        if self.switch.sums is not None and self.measures:
            new = x.narrow(channel_dim, old, x.shape[channel_dim] - old).movedim(channel_dim, -1)
            self.switch.sums[site] += new.reshape(len(x), -1, new.shape[-1]).mean(1).sum(0)
        if self.switch.constants is not None:
            constant = self.switch.constants[site].view([-1 if d == channel_dim else 1 for d in range(x.ndim)])
            shape = [len(constant.flatten()) if d == channel_dim else n for d, n in enumerate(x.shape)]
            x = torch.cat([x.narrow(channel_dim, 0, old), constant.expand(shape)], dim=channel_dim)
        return x


class _WideNorm(nn.Module):
    """A batch norm over old and new channels, the new ones masked behind it."""

    def __init__(self, base: nn.BatchNorm2d, new_channels: int, site: int, switch: _Switch):
        super().__init__()
        self.base = base
        self.new = nn.BatchNorm2d(new_channels, base.eps, base.momentum).to(base.weight.device)
        self.site = site
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        masks = self.switch.masks
        if masks is None:
            return self.base(x)
        old = self.base.num_features
        mask = masks[self.site][:, :, None, None]
        new = self.new(x[:, old:])
        return torch.cat([self.base(x[:, :old]), new * mask.to(new.dtype)], dim=1)


class _BypassedNorm(nn.Module):
    """A layer norm over the old channels, which the new ones pass untouched."""

    def __init__(self, base: nn.LayerNorm):
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        old = self.base.normalized_shape[-1]
        return self.base(x) if x.shape[-1] == old else torch.cat([self.base(x[..., :old]), x[..., old:]], dim=-1)


def _masked(x: Tensor, old: int, mask: Tensor, channel_dim: int) -> Tensor:
    kept, new = x.narrow(channel_dim, 0, old), x.narrow(channel_dim, old, mask.shape[1])
    between = [1] * (x.ndim - 2)
    mask = mask.view(len(mask), -1, *between) if channel_dim == 1 else mask.view(len(mask), *between, -1)
    return torch.cat([kept, new * mask.to(x.dtype)], dim=channel_dim)


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
        self._switch = _Switch()
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
                self._replace(name, _BypassedNorm(layer_norm))
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
                self._replace(site.norm, _WideNorm(norm, self.channels[index], index, self._switch))

    def _widen(self, name: str) -> _WideLayer:
        layer = self.network.get_submodule(name)
        if not isinstance(layer, _WideLayer):
            if not isinstance(layer, (nn.Conv2d, nn.Linear)):
                raise ValueError(f"{name} is neither a convolution nor a linear layer and cannot be widened")
            layer = _WideLayer(layer, self._switch)
            self._replace(name, layer)
        return layer

    def _replace(self, name: str, module: nn.Module) -> None:
        self._replaced[name] = self.network.get_submodule(name)
        module.train(self._replaced[name].training)
        self.network.set_submodule(name, module)

    def _layers(self) -> list[_WideLayer]:
        return [module for module in self.network.modules() if isinstance(module, _WideLayer)]

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
        wide = [m for m in self.network.modules() if isinstance(m, (_WideLayer, _WideNorm))]
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


class ErasedNetwork(nn.Module):
    """An expanded network whose new channels are kept, but fixed: scaled, or replaced by constants."""

    def __init__(
        self,
        expanded: ExpandedNetwork | SplitNetwork,
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
