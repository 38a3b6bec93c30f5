"""ResNet-9 as in REM's experiments: conv -> batch norm -> CELU(0.075) blocks, two of them residual, 2.3 M weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.models.site import Site

ALPHA = 0.075


class _FastCelu(torch.autograd.Function):
    """CELU by exp instead of expm1, which PyTorch does not vectorise on CPU: a third of the time.

    Without `setup_context`, whose arguments PyTorch binds by `inspect` at each call: 5 % of a trial on digits.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        below = x.clamp(max=0).mul_(1 / ALPHA).exp_().sub_(1).mul_(ALPHA)
        out = below.add_(x.clamp(min=0))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return out.clamp(max=0).mul_(1 / ALPHA).add_(1).mul_(grad)


def celu(x: Tensor) -> Tensor:
    """CELU with alpha 0.075 (Barron 2017), element by element."""
    return F.celu(x, ALPHA) if x.is_cuda or torch.compiler.is_compiling() else _FastCelu.apply(x)


class Block(nn.Module):
    """Convolution, batch norm, CELU and, where asked, max pooling by 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 1, pool: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = celu(self.norm(self.conv(x)))
        return F.max_pool2d(x, 2) if self.pool else x


class Residual(nn.Module):
    """x + block2(block1(x)). Channels that `x` has beyond its own stop here; new ones of block2 pass on."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.block1 = Block(channels, channels, 3)
        self.block2 = Block(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block2(self.block1(x))
        kept = x[:, : self.channels]
        if y.shape[1] == self.channels:
            return y + kept
        return torch.cat([y[:, : self.channels] + kept, y[:, self.channels :]], dim=1)


class ResNet9(nn.Module):
    """Images (B, C, H, W), H and W at least 12, to logits (B, num_classes). `width` multiplies every layer."""

    def __init__(self, in_channels: int, num_classes: int, width: float = 1.0):
        super().__init__()
        a, b, c = (max(1, round(n * width)) for n in (64, 128, 256))
        self.conv1 = Block(in_channels, a, 3)
        self.conv2 = Block(a, b, 5, stride=2, padding=2)
        self.res1 = Residual(b)
        self.conv3 = Block(b, c, 3, pool=True)
        self.res2 = Residual(c)
        self.conv4 = Block(c, b, 3, padding=0)
        self.head = nn.Linear(b, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        x = self.conv3(self.res1(x))
        x = self.conv4(self.res2(x))
        # by place, not amax, whose gradient looks for values that equal the maximum: compiled in bfloat16, none may
        return self.head(x.flatten(2).max(dim=2).values)

    def sites(self) -> tuple[Site, ...]:
        """The six sites of the paper; channels inside the residual blocks are not split."""

        def site(name: str, block: str, *consumers: str) -> Site:
            return Site(name, f"{block}.conv", f"{block}.norm", consumers, gate=name)

        return (
            site("conv1", "conv1", "conv2.conv"),
            site("conv2", "conv2", "res1.block1.conv"),
            site("res1", "res1.block2", "conv3.conv"),
            site("conv3", "conv3", "res2.block1.conv"),
            site("res2", "res2.block2", "conv4.conv"),
            site("conv4", "conv4", "head"),
        )

    def blocks(self) -> tuple[str, ...]:
        """Module names from the input to the head; every parameter belongs to exactly one of them."""
        return ("conv1", "conv2", "res1", "conv3", "res2", "conv4", "head")
