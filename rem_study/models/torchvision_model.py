"""Any of torchvision's classifiers, and the sites of any network whose graph can be traced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, fx, nn

from rem_study.errors import InputError, did_you_mean
from rem_study.models.graph import module_graph
from rem_study.models.site import Site


class TorchvisionModel(nn.Module):
    """One of torchvision's classifiers, newly initialised, as `network`.

    Args:
        name: as in `torchvision.models`, `resnet18` say.
        image_shape: channels, height, width; the first convolution is made to take so many channels.
        small_input: give a ResNet a 3x3 stem of stride 1 without max pooling, the usual change for images up to
            64 pixels; None means True for ResNets. Others have no such stem.

    Raises:
        InputError: no such classifier, or it cannot take such images.
    """

    def __init__(self, name: str, image_shape: tuple[int, int, int], num_classes: int, small_input: bool | None):
        super().__init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise InputError(f"model.name: torchvision has no classifier {name!r}{did_you_mean(name, known)}")
        self._image_shape = image_shape
        channels, size, _ = image_shape
        options: dict[str, Any] = {"num_classes": num_classes}
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        if name.startswith("vit_"):
            options["image_size"] = size
        try:
            self.network = torchvision.models.get_model(name, weights=None, **options)
            self._adapt(channels, name, small_input)
            self.eval()
            with torch.no_grad():
                self(torch.zeros(2, *image_shape))
            self.train()
        except InputError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            shape, reason = " x ".join(map(str, image_shape)), " ".join(str(error).split())[:200]
            raise InputError(f"model.name: {name} cannot take images of {shape} pixels: {reason}") from error

    def _adapt(self, channels: int, name: str, small_input: bool | None) -> None:
        stem, old = next((n, m) for n, m in self.network.named_modules() if isinstance(m, nn.Conv2d))
        is_resnet = isinstance(self.network, torchvision.models.ResNet)
        if small_input and not is_resnet:
            raise InputError(f"model.small_input: {name} is no ResNet and has no stem for small images")
        small = is_resnet and small_input is not False
        if small:
            self.network.maxpool = nn.Identity()
        if small or channels != old.in_channels:
            window: Any = (3, 1, 1) if small else (old.kernel_size, old.stride, old.padding)
            new = nn.Conv2d(channels, old.out_channels, *window)
            if old.bias is None:
                new.register_parameter("bias", None)
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
            self.network.set_submodule(stem, new)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def blocks(self) -> tuple[str, ...]:
        """See `parameter_blocks`. A parameter that torchvision keeps outside any (ViT's class token) is in none."""
        return tuple(parameter_blocks(self.network, "network."))

    def sites(self) -> tuple[Site, ...]:
        """Wherever one layer feeds another and nothing else: the inner channels of a ResNet's residual blocks,
        say. Raises InputError where there is no such place."""
        sites = chain_sites(self, self._image_shape)
        if not sites:
            raise InputError("model.name: this network has no place for new channels that REM could find")
        return sites


def parameter_blocks(module: nn.Module, prefix: str) -> Iterator[str]:
    """Names of the modules with parameters, from the input to the head; sequences are taken apart."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential:
            yield from parameter_blocks(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield prefix + name


_PASSING = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.Tanh,
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.MaxPool2d, nn.AvgPool2d,
)  # fmt: skip
"""Modules that keep channels apart and turn zeros into zeros."""
_PASSING_FUNCTIONS = (F.relu, torch.relu, F.gelu, F.silu, F.dropout, F.max_pool2d, F.avg_pool2d, torch.tanh)


def chain_sites(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[Site, ...]:
    """Sites found by structure: a convolution or linear layer, perhaps a batch norm behind it, what keeps channels
    apart (activations, pooling, dropout), then the one layer of the same kind that reads them.

    Args:
        model: holds a network as `network`; a site is named by its producer's name in that.
        image_shape: channels, height, width.

    Returns:
        the sites in the order of execution; none where the graph cannot be traced (`module_graph`).
    """
    try:
        graph = module_graph(model, image_shape)
    except Exception:  # whatever the network's own code raises when it meets a proxy
        return ()
    modules = dict(model.named_modules())
    uses = Counter(node.target for node in graph.nodes if node.op == "call_module")

    def module_of(node: fx.Node) -> nn.Module | None:
        return modules[str(node.target)] if node.op == "call_module" else None

    sites = []
    for node in graph.nodes:
        producer = module_of(node)
        if not _widenable(producer) or uses[node.target] > 1:
            continue
        norm: str | None = None
        reader = _only_reader(node)
        while reader is not None:
            module = module_of(reader)
            if isinstance(module, nn.BatchNorm2d) and norm is None and reader.args[0] is node and module.affine:
                norm = str(reader.target)
            elif not isinstance(module, _PASSING) and reader.target not in _PASSING_FUNCTIONS:
                break
            reader = _only_reader(reader)
        if reader is None or uses[reader.target] > 1 or (norm is not None and uses[norm] > 1):
            continue
        consumer = module_of(reader)
        if _widenable(consumer) and isinstance(consumer, nn.Conv2d) == isinstance(producer, nn.Conv2d):
            name = str(node.target)
            sites.append(Site(name.removeprefix("network."), name, norm, (str(reader.target),), gate=norm or name))
    return tuple(sites)


def _widenable(module: nn.Module | None) -> bool:
    if module is None or "weight" not in module._parameters:  # made from others at each pass: weight norm, pruning, ...
        return False
    plain_convolution = type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
    return plain_convolution or type(module) is nn.Linear


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
