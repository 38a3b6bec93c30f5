"""Batch-norm statistics for each of the two paths through a network: old channels alone, and with the new ones on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PathStatistics(nn.Module):
    """A second set of running statistics for the batch norms that both paths share.

    What comes into such a norm differs between the paths, so one running mean of both would fit neither. The norms
    themselves keep the statistics of the old channels alone; those of the other path start as a copy and are
    buffers here, so that a state dict holds both.
    """

    def __init__(self, norms: Iterable[_BatchNorm]):
        super().__init__()
        self._norms = tuple(norm for norm in norms if norm.track_running_stats)  # a tuple: not registered again here
        for index, norm in enumerate(self._norms):
            for name in _STATISTICS:
                self.register_buffer(f"{name}_{index}", getattr(norm, name).clone())

    @contextmanager
    def of_both(self) -> Iterator[None]:
        """Inside, the norms use, and in training mode update, the statistics of the path with new channels."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for index, norm in enumerate(self._norms):
            for name in _STATISTICS:
                mine = f"{name}_{index}"
                norm._buffers[name], self._buffers[mine] = self._buffers[mine], norm._buffers[name]

    @torch.no_grad()
    def estimate(self, forward: Callable[[Tensor], object], batches: Iterable[Tensor]) -> None:
        """Set the statistics of the old channels alone to their mean over `batches` of images (B, C, H, W).

        Args:
            forward: runs the old channels alone; everything but the norms is in evaluation mode meanwhile.
        """
        if not self._norms:
            return
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            norm.train()
        for seen, images in enumerate(batches, 1):
            for norm in self._norms:
                norm.momentum = 1 / seen  # the plain mean, which PyTorch's `None` stands for, at a wait for the device
            forward(images)
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum


_STATISTICS = ("running_mean", "running_var")


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Every batch norm of `network`."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
