"""What a network's `forward` may ask of its images, and still show where it can be widened."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rem_study.models.graph import module_graph
from rem_study.models.own_model import OwnModel
from rem_study.models.redirect import ExpandedNetwork

SHAPE = (3, 10, 8)
SITE = [("conv", "norm", ("reader",))]


class Base(nn.Module):
    """conv -> norm -> ReLU -> reader, pooled, and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.reader, self.head = nn.Conv2d(6, 5, 3, padding=1), nn.Linear(5, 10)

    def layers(self, x):
        return self.head(self.reader(F.relu(self.norm(self.conv(x)))).mean((2, 3)))

    def forward(self, x):
        return self.layers(x)


class Asserts(Base):
    def forward(self, x):
        assert x.dim() == x.ndim == 4 and x.shape[1:] == SHAPE, f"images of {x.shape}"
        assert len(x) == x.size(0) == x.size()[0] == x.size(dim=-4) and x.numel() == len(x) * math.prod(SHAPE)
        return self.layers(x)


class Branches(Base):
    def forward(self, x):
        if x.shape[-1] < 16:
            x = F.interpolate(x, scale_factor=2)
        for _ in range(x.shape[2] // 10):
            x = F.avg_pool2d(x, 2)
        return self.layers(x) if x.dtype == torch.float32 else self.head(x.mean((2, 3)))


class Defaults(Base):
    def forward(self, x, features=False, scale=None):
        if scale is not None:
            x = x * scale
        logits = self.layers(x)
        return (logits, x) if features else logits


class Makes(Base):
    """Tensors that take after the images."""

    def forward(self, x):
        batch, _, height, width = x.shape
        place = torch.linspace(0, 1, height * width, device=x.device, dtype=x.dtype).view(1, 1, height, width)
        logits = self.layers(x + place.expand(batch, 3, height, width))
        return logits + torch.zeros(logits.shape, device=logits.device)


class InTraining(Base):
    def forward(self, x):
        if self.training and len(x) < 2:
            raise ValueError("Expected more than 1 value per channel when training")
        return self.layers(x)


class Pads(Base):
    """Padding to a multiple of four, from the images' own size."""

    def forward(self, x):
        missing = [(4 - x.shape[k] % 4) % 4 for k in (-1, -2)]
        return self.layers(F.pad(x, (0, missing[0], 0, missing[1])))


class Scales(Base):
    """A number made of the content, which decides nothing."""

    def forward(self, x):
        return self.layers(x / x.abs().max().item())


@torch.library.custom_op("rem_study_test::brighter", mutates_args=())
def brighter(x: torch.Tensor) -> torch.Tensor:
    """Somebody's own operator, with no form for tensors without content."""
    return x + 1


class OwnOperator(Base):
    def forward(self, x):
        assert len(x) > 0
        return self.layers(brighter(x))


class Splits(Base):
    """Results that are no tensors."""

    def forward(self, x):
        first, rest = x.split([1, 2], dim=1)
        top = rest.max(dim=1, keepdim=True).values
        assert first.shape == top.shape
        return self.layers(torch.cat([first, top.mT.mT, rest[:, :1]], dim=1))


FOLLOWED = [Base, Asserts, Branches, Defaults, Makes, InTraining, Pads, Scales, OwnOperator, Splits]


def sites(network: nn.Module) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [
        (site.name, site.norm and site.norm.removeprefix("network."), tuple(n[8:] for n in site.consumers))
        for site in OwnModel(network, SHAPE).sites()
    ]


@pytest.mark.parametrize("kind", FOLLOWED)
@pytest.mark.parametrize("training", [False, True])
def test_what_a_shape_decides_is_followed(kind, training):
    assert sites(kind().train(training)) == SITE


@pytest.mark.parametrize("kind", FOLLOWED)
def test_new_channels_there_change_nothing_until_they_are_switched_on(kind):
    torch.manual_seed(0)
    network, images = kind().eval(), torch.randn(4, *SHAPE)
    expected = network(images)
    model = OwnModel(network, SHAPE)
    wide = ExpandedNetwork(model, model.sites(), 0.5, "random", 0).eval()
    torch.testing.assert_close(wide(images), expected)
    assert not torch.allclose(wide(images, torch.ones(4, wide.total_channels)), expected)


class OnContent(Base):
    def forward(self, x):
        return self.layers(x if x.mean() > 0 else -x)


class OnANumber(Base):
    def forward(self, x):
        return self.layers(x * min(float(x.mean()), 1.0))


class OnAnItem(Base):
    def forward(self, x):
        return self.layers(x * max(x.mean().item(), 1.0))


class OnTheBatch(Base):
    def forward(self, x):
        return self.layers(-x if len(x) % 2 else x)


class OverImages(Base):
    def forward(self, x):
        return torch.stack([self.layers(one[None])[0] for one in x])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OnContent, "inputs to control flow"),
        (OnANumber, "float"),
        (OnAnItem, "inputs to control flow"),
        (OnTheBatch, "the number of images in a batch"),
        (OverImages, "cannot be iterated"),
    ],
)
def test_what_another_batch_would_decide_otherwise_is_not(kind, reason):
    with pytest.raises(Exception, match=reason):
        module_graph(kind(), SHAPE)


class CountsChannels(Base):
    """The number of the site's channels decides; new ones would change it."""

    def layers(self, x):
        x = self.conv(x)
        x = F.relu(self.norm(x)) * (2 if x.shape[1] > 8 else 1)
        return self.head(self.reader(x).mean((2, 3)))


class CountsChannelsOnTheWay(Base):
    def layers(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.head(self.reader(x if x.size(1) == 6 else x.abs()).mean((2, 3)))


@pytest.mark.parametrize("kind", [CountsChannels, CountsChannelsOnTheWay])
def test_a_layer_whose_channels_are_counted_takes_no_more(kind):
    module_graph(kind(), SHAPE)
    with pytest.raises(Exception, match="no convolution or linear layer feeds one other alone"):
        sites(kind())


def test_tracing_leaves_the_network_as_it_is():
    torch.manual_seed(0)
    network = Makes().train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    names, rng = set(vars(network)), torch.get_rng_state()
    module_graph(network, SHAPE)
    assert set(vars(network)) == names and torch.equal(torch.get_rng_state(), rng)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]) and type(value) is torch.Tensor
    assert all(type(parameter) is nn.Parameter for parameter in network.parameters())
