"""Layers of a trained network with channels beside their own, which run at their own width where no masks are given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.models.masks import Initialisation


class Switch:
    """What the widened layers of one network share: this forward pass's masks, one (B, channels) tensor a site."""

    def __init__(self) -> None:
        self.masks: tuple[Tensor, ...] | None = None
        self.constants: tuple[Tensor, ...] | None = None
        self.sums: list[Tensor] | None = None


class WideLayer(nn.Module):
    """A convolution or linear layer with more inputs (those of `reads`) and more outputs (those of `writes`)."""

    def __init__(self, base: nn.Conv2d | nn.Linear, switch: Switch):
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


class WideNorm(nn.Module):
    """A batch norm over old and new channels, the new ones masked behind it."""

    def __init__(self, base: nn.BatchNorm2d, new_channels: int, site: int, switch: Switch):
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


class BypassedNorm(nn.Module):
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
