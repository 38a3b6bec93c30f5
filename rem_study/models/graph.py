"""The graph of a network's modules, for images of one shape, so that what `forward` asks about shapes has an answer."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode


def module_graph(network: nn.Module, image_shape: tuple[int, int, int]) -> fx.Graph:
    """The calls from images to logits, torch's own modules as single nodes, as `torch.fx` traces them.

    Shapes, dtypes and devices are those that a batch of such images has (nothing is computed), so that assertions,
    branches and loops over them are followed; where an operator does not tell them without content, as by `torch.fx`
    alone. What holds for one batch must hold for all: two sizes of batch are tried, and a branch on an image's content
    is an error.

    Args:
        network: images (B, C, H, W) to logits (B, K); left as it is.
        image_shape: channels, height, width.

    Raises:
        Exception: whatever the network's own code raises when it meets a tensor without content; ValueError where
            the graph depends on the number of images in a batch.
    """
    graph, other = (_trace(network, (count, *image_shape)) for count in (2, 3))
    if _calls(graph) != _calls(other):
        raise ValueError("the path through it depends on the number of images in a batch")
    return graph


def _calls(graph: fx.Graph) -> list[tuple[str, str, list[str]]]:
    return [(node.op, str(node.target), [source.name for source in node.all_input_nodes]) for node in graph.nodes]


def _trace(network: nn.Module, shape: tuple[int, ...]) -> fx.Graph:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with FakeCopyMode(fake):  # tracing leaves constants in what it traces
        network = copy.deepcopy(network)
    with fake, torch.no_grad():
        return _Tracer(torch.empty(shape, device=device)).trace(network)


class _Known(fx.Proxy):
    """The proxy of what a node gives, whose form is known: a tensor without content, or several of them."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, result: Any):
        super().__init__(node, tracer)
        self._result = result

    def __getattr__(self, k: str) -> Any:
        if isinstance(getattr(self._result, k, None), torch.Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)


class _Shaped(_Known):
    """The proxy of a tensor.

    Asking for its shape is a use of it: code that depends on that of a layer's output does not bear more channels.
    """

    def _ask(self, name: str) -> Any:
        self.tracer.create_node("call_function", getattr, (self.node, name), {})
        return getattr(self._result, name)

    shape = property(lambda self: self._ask("shape"))
    ndim = property(lambda self: self._ask("ndim"))
    dtype = property(lambda self: self._ask("dtype"))
    device = property(lambda self: self._ask("device"))

    def size(self, *dim: int, **named: int) -> Any:
        return self._ask("size")(*dim, **named)

    def dim(self) -> int:
        return int(self._ask("dim")())

    def numel(self) -> int:
        return int(self._ask("numel")())

    def __len__(self) -> int:
        return int(self._ask("shape")[0])


class _Tracer(fx.Tracer):
    """Traces a network for the images `sample`, a tensor without content."""

    def __init__(self, sample: torch.Tensor):
        super().__init__()
        self._sample = sample
        self._results: dict[fx.Node, Any] = {}
        self._running = False  # a node's own code, to learn its shapes: nothing is recorded

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        self._running = True
        try:
            known_args, known_kwargs = (fx.node.map_aggregate(given, self._known) for given in (args, kwargs))
            result = self._run(kind, target, known_args, known_kwargs)
        except Exception:  # it takes content, or an operator has no form without: its shape is unknown
            return proxy
        finally:
            self._running = False
        self._results[proxy.node] = result
        return (_Shaped if isinstance(result, torch.Tensor) else _Known)(proxy.node, self, result)

    def _known(self, argument: Any) -> Any:
        if isinstance(argument, fx.proxy.Attribute):
            return getattr(self._known(argument.root), argument.attr)
        return self._results[argument.node] if isinstance(argument, fx.Proxy) else argument

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self._sample
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if kind == "call_function":
            return target(*args, **kwargs)
        found = functools.reduce(getattr, str(target).split("."), self.root)
        return found if kind == "get_attr" else found(*args, **kwargs)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)
