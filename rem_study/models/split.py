"""Networks whose own channels are split at their sites: generalisation channels, always on, and memorisation
channels, switched by sample or silent.

Example-tied dropout (ETD; Maini et al. 2023, "Can Neural Network Memorization Be Localized?") trains such a network
with masks fixed by the sample's id. At half capacity the second half of the channels is silent throughout training,
as in the released code of REM (arXiv 2505.17730), which wakes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from rem_study.errors import InputError
from rem_study.models.erased import ErasedNetwork
from rem_study.models.masks import EraseMode, sample_masks
from rem_study.models.path_statistics import PathStatistics, batch_norms
from rem_study.models.site import Site, select_sites


class _Gate(nn.Module):
    """Multiplies the channels of one site: by `scale`, or the memorisation channels by this pass's masks."""

    scale: Tensor

    def __init__(self, channels: int, own: int, rest: float, channel_dim: int):
        super().__init__()
        self.own = own
        self.channel_dim = channel_dim
        scale = torch.ones(channels)
        scale[own:] = rest
        self.register_buffer("scale", scale)
        self.mask: Tensor | None = None
        self.constant: Tensor | None = None
        self.sum: Tensor | None = None

    def hook(self, module: nn.Module, inputs: object, x: Tensor) -> Tensor:
        """A forward hook of the module whose output the site is."""
        between = [1] * (x.ndim - 2)
        shape = [-1, *between] if self.channel_dim == 1 else [*between, -1]
        if self.mask is None:
            return x * self.scale.to(x.dtype).view(1, *shape)
        memory = x.shape[self.channel_dim] - self.own
        kept = x.narrow(self.channel_dim, 0, self.own)
        new = x.narrow(self.channel_dim, self.own, memory) * self.mask.to(x.dtype).view(len(self.mask), *shape)
        if self.sum is not None:
            self.sum += new.movedim(self.channel_dim, -1).reshape(len(x), -1, memory).mean(1).sum(0)
        if self.constant is not None:
            new = self.constant.view(1, *shape).expand_as(new)
        return torch.cat([kept, new], dim=self.channel_dim)


class SplitNetwork(nn.Module):
    """A network with gates at its sites. It is itself a classifier, with the network's sites and blocks.

    The multipliers of the plain form are buffers (`gates.*.scale`), so that a state dict says what it is.

    Args:
        network: newly initialised; its parameters stay the same objects.
        own_share: of a site's channels, the first, that are always on (rounded; at least one is, one is not).
        rest: what the others are multiplied by where no masks are given: in the plain form, in which a network is
            evaluated and unlearned.
        density: the share of them that a sample activates in training.
        seed: of the samples' masks; None: of the caller's.

    Raises:
        InputError: the network has no site that could be split.
    """

    def __init__(self, network: nn.Module, own_share: float, rest: float, density: float, seed: int | None):
        super().__init__()
        self.network = network
        self.density = density
        self.seed = seed
        self._sites = tuple(site for site in network.sites() if site.gate is not None)  # type: ignore[operator]
        gates = []
        for site in self._sites:
            assert site.gate is not None
            producer = network.get_submodule(site.producer)
            channels = int(producer.weight.shape[0])  # type: ignore[index]
            if channels < 2:
                raise InputError(f"original.kind: {site.name} has a single channel, which cannot be split")
            own = min(max(1, round(own_share * channels)), channels - 1)
            gate = _Gate(channels, own, rest, 1 if isinstance(producer, nn.Conv2d) else -1)
            network.get_submodule(site.gate).register_forward_hook(gate.hook)
            gates.append(gate)
        if not gates:
            raise InputError("original.kind: this network has no channels that could be split; use standard")
        self.gates = nn.ModuleList(gates)
        self._active = tuple(range(len(gates)))
        self.statistics = PathStatistics(())  # one set, but from waking to erasing

    @property
    def silent(self) -> bool:
        """Whether the memorisation channels have never been on."""
        return self.density == 0

    def sites(self) -> tuple[Site, ...]:
        """The sites that are split, by the names of the network's own modules."""
        return self._sites

    def blocks(self) -> tuple[str, ...]:
        """Module names from the input to the head."""
        return tuple(f"network.{name}" for name in self.network.blocks())  # type: ignore[operator]

    def _gates(self) -> list[_Gate]:
        gates = [self.gates[i] for i in self._active]
        return [gate for gate in gates if isinstance(gate, _Gate)]

    @property
    def channels(self) -> tuple[int, ...]:
        """Memorisation channels of each site that masks are given for."""
        return tuple(len(gate.scale) - gate.own for gate in self._gates())

    @property
    def total_channels(self) -> int:
        """All of them together: the width of a mask."""
        return sum(self.channels)

    def draw_masks(self, ids: Tensor, density: float, seed: int) -> Tensor:
        """The masks (len(ids), total_channels) of the samples `ids`, `density` dense, `seed` unless the network has
        masks of its own: at the density of its training these are those of its training."""
        counts = [len(gate.scale) - gate.own for gate in self.gates if isinstance(gate, _Gate)]
        masks = sample_masks(ids, sum(counts), density, seed if self.seed is None else self.seed)
        return torch.cat([masks.split(counts, dim=1)[i] for i in self._active], dim=1)

    def training_masks(self, ids: Tensor) -> Tensor | None:
        """The masks (len(ids), total_channels) that the samples `ids` have as the original is trained; None: none."""
        return self.draw_masks(ids, self.density, 0) if self.density else None

    def forward(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) to logits (B, K); masks (B, total_channels), None for the plain form."""
        gates = self._gates()
        if masks is not None:
            for gate, mask in zip(gates, masks.to(x.dtype).split(self.channels, dim=1), strict=True):
                gate.mask = mask
        try:
            with nullcontext() if masks is None else self.statistics.of_both():
                return self.network(x)
        finally:
            for gate in gates:
                gate.mask = None

    def wake(self, position: str) -> None:
        """Take the memorisation channels of the sites at `position` (see `select_sites`) for REM's theta 2: masks
        are for them alone, and without masks they are off. Others stay as in the plain form."""
        chosen = select_sites(self._sites, position)
        self._active = tuple(i for i, site in enumerate(self._sites) if site in chosen)
        for gate in self._gates():
            gate.scale[gate.own :] = 0
        self.statistics = PathStatistics(batch_norms(self.network))

    def estimate_statistics(self, batches: Iterable[Tensor]) -> None:
        """Set the batch norms' statistics for the old channels alone from `batches` of images (B, C, H, W)."""
        was_training = self.training
        self.eval()
        self.statistics.estimate(self, batches)
        self.train(was_training)

    @torch.no_grad()
    def clear_outgoing(self) -> None:
        """Zero the weights from woken channels to the others, so that waking them changes no function."""
        own = {site.producer: gate.own for site, gate in zip(self._sites, self.gates, strict=True)}
        for i in self._active:
            for name in self._sites[i].consumers:
                weight = self.network.get_submodule(name).weight
                weight[: own.get(name), own[self._sites[i].producer] :] = 0  # type: ignore[operator]

    def keep_generalisation(self, boost: float) -> None:
        """ETD's drop mode: memorisation channels off, generalisation channels times `boost`."""
        for gate in self._gates():
            gate.scale[: gate.own] = boost
            gate.scale[gate.own :] = 0

    @torch.no_grad()
    def mean_activations(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """Mean over samples and positions of what the woken channels pass on, (channels,) a site.

        Args:
            batches: images (B, C, H, W) and their masks (B, total_channels).
        """
        gates, seen = self._gates(), 0
        for gate in gates:
            gate.sum = torch.zeros_like(gate.scale[gate.own :])
        was_training = self.training
        self.eval()
        try:
            for images, masks in batches:
                self(images, masks)
                seen += len(images)
            return tuple(gate.sum / max(seen, 1) for gate in gates if gate.sum is not None)
        finally:
            for gate in gates:
                gate.sum = None
            self.train(was_training)

    def erased(self, mode: EraseMode, density: float, means: tuple[Tensor, ...] | None = None) -> nn.Module:
        """The network with its woken channels put out of use, as `ExpandedNetwork.erased` does with new ones; where
        that removes channels, here their weights are zeroed too: the architecture stays, nothing is left in it."""
        if mode in ("drop", "anneal"):
            self._zero_woken()
            self.statistics = PathStatistics(())
            return self
        return self.kept(mode, density, means)

    def kept(self, mode: EraseMode, density: float, means: tuple[Tensor, ...] | None = None) -> ErasedNetwork:
        """A view of this network as `erased` would leave it, for the modes that keep the woken channels."""
        return ErasedNetwork(self, mode, density, means)

    def run_erased(self, x: Tensor, scale: float, constants: tuple[Tensor, ...] | None) -> Tensor:
        """Logits with every woken channel times `scale`, or held at `constants`."""
        if scale == 0 and constants is None:
            return self(x)
        gates = self._gates()
        for i, gate in enumerate(gates):
            gate.constant = None if constants is None else constants[i]
        try:
            return self(x, torch.full((len(x), self.total_channels), scale, device=x.device))
        finally:
            for gate in gates:
                gate.constant = None

    @torch.no_grad()
    def _zero_woken(self) -> None:
        for i, gate in zip(self._active, self._gates(), strict=True):
            site = self._sites[i]
            for name in (site.producer, *([site.norm] if site.norm else [])):
                for parameter in self.network.get_submodule(name).parameters():
                    parameter[gate.own :] = 0
            for name in site.consumers:
                self.network.get_submodule(name).weight[:, gate.own :] = 0  # type: ignore[operator]
