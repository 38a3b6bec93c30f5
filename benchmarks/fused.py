"""Whether advancing the replicates of one configuration together pays: torch.func against one after another.

`torch.func.vmap` over stacked parameters turns the convolutions of R networks into grouped ones. Both ways make the
same steps of forward and backward passes in training mode (batch norm on batch statistics, none kept) on resident
random images.

    python benchmarks/fused.py [--replicates 3] [--width 0.125] [--size 12]
"""

from __future__ import annotations

import argparse
import copy
import statistics
from functools import partial

import torch
from common import machine, seconds_of
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from rem_study.models import resnet9
from rem_study.models.resnet9 import ResNet9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--size", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    resnet9.celu = partial(F.celu, alpha=resnet9.ALPHA)  # for both: vmap cannot see into the faster one
    networks = [ResNet9(1, 10, arguments.width).to(device) for _ in range(arguments.replicates)]
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
    images = torch.randn(arguments.replicates, arguments.batch, 1, arguments.size, arguments.size, device=device)
    labels = torch.randint(0, 10, (arguments.replicates, arguments.batch), device=device)
    stacked, buffers = stack_module_state(networks)
    shell = copy.deepcopy(networks[0]).to("meta")

    def loss(parameters: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(shell, (parameters, state), (x,)), y)

    def together() -> None:
        vmap(loss)(stacked, buffers, images, labels).sum().backward()

    def apart() -> None:
        for network, x, y in zip(networks, images, labels, strict=True):
            F.cross_entropy(network(x), y).backward()

    together()
    apart()
    times = [(seconds_of(together)[0], seconds_of(apart)[0]) for _ in range(arguments.rounds)]
    fused, single = (statistics.median(t[i] for t in times) for i in (0, 1))
    print(machine())
    print(
        f"{arguments.replicates} replicates, width {arguments.width:g}, {arguments.size} pixels: together "
        f"{fused * 1e3:.1f} ms a step, one after another {single * 1e3:.1f} ms: {single / fused:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
