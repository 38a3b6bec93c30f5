"""The graph of a network's modules, for images of one shape, so that what `forward` asks about shapes has an answer."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode


def module_graph(network: nn.Module, image_shape: tuple[int, int, int]) -> fx.Graph:
    """The calls from images to logits, torch's own modules as single nodes, as `torch.fx` traces them.

    Shapes, dtypes and devices are those that a batch of such images has (nothing is computed), so that assertions,
    branches and loops over them are followed. What holds for one batch must hold for all: two sizes of batch are
    tried, and a branch on an image's content is an error.

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


class _Traced(fx.Proxy):
    """A proxy that knows what a batch's tensor says of itself without its content.

    Asking is a use of the tensor: code that depends on the shape of a layer's output does not bear more channels.
    """

    value: Any = None

    def _ask(self, name: str) -> Any:
        answer = getattr(self.value, name)
        self.tracer.create_node("call_function", getattr, (self.node, name), {})
        return answer

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

    def __float__(self) -> float:
        raise fx.proxy.TraceError(_CONTENT)

    def __int__(self) -> int:
        raise fx.proxy.TraceError(_CONTENT)


_CONTENT = "a number is made of what the images show"


class _Tracer(fx.Tracer):
    """Traces a network for the images `sample`, a tensor without content."""

    def __init__(self, sample: torch.Tensor):
        super().__init__()
        self._sample = sample
        self._running = False  # a node's own code, to learn its shapes: nothing is recorded

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Traced(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        if isinstance(proxy, _Traced):
            self._running = True
            try:
                proxy.value = self._run(kind, target, fx.node.map_aggregate(args, _value), _values(kwargs))
            except DataDependentOutputException as error:
                raise fx.proxy.TraceError(_CONTENT) from error
            finally:
                self._running = False
        return proxy

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


def _values(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: fx.node.map_aggregate(value, _value) for name, value in kwargs.items()}


def _value(argument: Any) -> Any:
    if isinstance(argument, fx.proxy.Attribute):
        return getattr(_value(argument.root), argument.attr)
    return argument.value if isinstance(argument, _Traced) else argument
