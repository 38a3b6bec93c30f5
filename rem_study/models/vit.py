"""ViT for small images as in REM's experiments: shifted patch tokens and locality self-attention (Lee et al. 2021,
arXiv 2112.13492), patch 8, 512 features, 4 blocks of 8 heads of 64, MLP of 1,536, class token; 11 M weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.errors import InputError
from rem_study.models.site import Site

HEAD_FEATURES = 64


class PatchTokens(nn.Module):
    """Images (B, C, S, S) to tokens (B, 1 + (S / patch)^2, features), the class token first.

    Beside the image itself a patch holds it shifted by half a patch along the four diagonals (section 3.1).
    """

    def __init__(self, in_channels: int, image_size: int, patch_size: int, features: int):
        super().__init__()
        self.patch_size = patch_size
        pixels = 5 * in_channels * patch_size**2
        self.norm = nn.LayerNorm(pixels)
        self.project = nn.Linear(pixels, features)
        self.class_token = nn.Parameter(torch.randn(1, 1, features))
        self.position = nn.Parameter(torch.randn(1, 1 + (image_size // patch_size) ** 2, features))

    def forward(self, x: Tensor) -> Tensor:
        half = self.patch_size // 2
        shifted = [F.pad(x, (a, -a, b, -b)) for a in (half, -half) for b in (half, -half)]
        patches = F.unfold(torch.cat([x, *shifted], dim=1), self.patch_size, stride=self.patch_size)
        tokens = self.project(self.norm(patches.transpose(1, 2)))
        return torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1) + self.position


class LocalityAttention(nn.Module):
    """Self-attention with a learned temperature in which no token attends to itself (section 3.2)."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.log_temperature = nn.Parameter(torch.tensor(-0.5 * math.log(HEAD_FEATURES)))
        self.to_qkv = nn.Linear(features, 3 * heads * HEAD_FEATURES, bias=False)
        self.to_out = nn.Linear(heads * HEAD_FEATURES, features)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, HEAD_FEATURES)).permute(2, 0, 3, 1, 4)
        others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        out = F.scaled_dot_product_attention(q * self.log_temperature.exp(), k, v, others, scale=1.0)
        return self.to_out(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear, token by token."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """x + attention, then x + MLP, each behind a layer norm.

    Features that `x` has beyond its own are read by both and stop here; new ones of the MLP pass on.
    """

    def __init__(self, features: int, hidden: int, heads: int):
        super().__init__()
        self.features = features
        self.norm1 = nn.LayerNorm(features)
        self.attention = LocalityAttention(features, heads)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = Mlp(features, hidden)

    def forward(self, x: Tensor) -> Tensor:
        own, more = x[..., : self.features], x[..., self.features :]
        own = own + self.attention(self.norm1(x))
        y = self.mlp(self.norm2(torch.cat([own, more], dim=-1)))
        return torch.cat([own + y[..., : self.features], y[..., self.features :]], dim=-1)


class Head(nn.Module):
    """Logits from the class token."""

    def __init__(self, features: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x[:, 0]))


class ViT(nn.Module):
    """Images (B, C, image_size, image_size) to logits (B, num_classes).

    Args:
        width: multiplies features, hidden units and heads (at least one; a head keeps its 64 features).
        depth: blocks.
        patch_size: pixels a side; it must divide `image_size` (InputError).
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        width: float = 1.0,
        depth: int = 4,
        patch_size: int = 8,
    ):
        super().__init__()
        if image_size % patch_size:
            raise InputError(f"model.patch_size: {patch_size} does not divide the images' {image_size} pixels")
        features, hidden, heads = (max(1, round(n * width)) for n in (512, 1536, 8))
        self.tokens = PatchTokens(in_channels, image_size, patch_size, features)
        self.layers = nn.Sequential(*(Block(features, hidden, heads) for _ in range(depth)))
        self.head = Head(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.tokens(x)))

    def blocks(self) -> tuple[str, ...]:
        """Module names from the input to the head."""
        return ("tokens", *(f"layers.{i}" for i in range(len(self.layers))), "head")

    def sites(self) -> tuple[Site, ...]:
        """Two a block: its MLP's hidden units, and its output features as the next block (or the head) reads them."""
        sites = []
        for i in range(len(self.layers)):
            own, following = f"layers.{i}.mlp", f"layers.{i + 1}"
            sites.append(Site(f"mlp{i + 1}", f"{own}.up", None, (f"{own}.down",), gate=f"{own}.up"))
            readers: tuple[str, ...] = (f"{following}.attention.to_qkv", f"{following}.mlp.up")
            norms: tuple[str, ...] = (f"{following}.norm1", f"{following}.norm2")
            if i + 1 == len(self.layers):
                readers, norms = ("head.linear",), ("head.norm",)
            sites.append(Site(f"block{i + 1}", f"{own}.down", None, readers, norms))
        return tuple(sites)
