"""The paper's sweep: how near one training step comes to the chip's peak, and how long the whole sweep would take.

Prints, for the network and batch of the study's originals: images per second of a bare training step on resident random
images, in float32 and bfloat16, and its share of the peak of a large bfloat16 matrix product measured in the same run.
Then trains one original, runs every method of the study once in one cell, and projects the study's sweep from it.

    python benchmarks/paper.py [STUDY.yaml] [--device cuda] [--set key.path=value ...]

The default study is the paper's, which needs a GPU and CIFAR-10 under data/; paper-cifar10-cpu.yaml is cut to a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from common import ROOT, machine, originals, seconds_of
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rem_study.spec.original import Precision
from rem_study.spec.resolve import load_study
from rem_study.spec.study import StudySpec
from rem_study.training.precision import computing_in
from rem_study.trial.originals import Setting, train_original
from rem_study.trial.trial import Trial, cells_of, run_trial


def bare_step(
    spec: StudySpec, setting: Setting, precision: Precision, layout: torch.memory_format
) -> Callable[[], None]:
    """The plain training step of a fresh network: forward, cross-entropy, backward, SGD."""
    dataset = setting.dataset
    device, batch = dataset.train_images.device, spec.original.batch_size
    network = setting.fresh_network("benchmark").to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, 0.9, weight_decay=5e-4)
    images = torch.randn(batch, *dataset.train_images.shape[1:], device=device).to(memory_format=layout)
    labels = torch.randint(0, dataset.num_classes, (batch,), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing_in(precision, device):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()

    return step


def matrix_peak(device: str) -> float:
    """FLOP/s of a large bfloat16 matrix product."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(20):
            a @ b

    products()
    return 20 * 2 * n**3 / min(seconds_of(products)[0] for _ in range(3))


def show_step(spec: StudySpec, setting: Setting, device: str) -> None:
    peak = matrix_peak(device)
    print(f"bfloat16 matrix product: {peak / 1e12:.2f} TFLOP/s")
    kinds: list[tuple[Precision, torch.memory_format]] = [
        ("float32", torch.contiguous_format),
        ("bfloat16", torch.contiguous_format),
        ("bfloat16", torch.channels_last),
    ]
    steps = 50 if device == "cuda" else 3
    for precision, layout in kinds:
        step = bare_step(spec, setting, precision, layout)
        with FlopCounterMode(display=False) as counter:
            step()

        def run(step: Callable[[], None] = step) -> None:
            for _ in range(steps):
                step()

        run()
        seconds = min(seconds_of(run)[0] for _ in range(3)) / steps
        share = counter.get_total_flops() / seconds / peak
        name = f"{precision}, {str(layout).removeprefix('torch.')}"
        print(
            f"bare step, {name:30} {spec.original.batch_size / seconds:9.0f} images/s, {share:.3f} of that", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=ROOT / "studies" / "paper-cifar10-resnet9.yaml")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="key.path=value")
    arguments = parser.parse_args()
    study = load_study(arguments.study, tuple(arguments.set))
    spec, device = study.spec, arguments.device
    cell = cells_of(spec)[0]
    setting = Setting(spec, cell.corruption, 0, device)
    print(machine())
    show_step(spec, setting, device)

    store = originals()
    seconds, original = seconds_of(partial(train_original, setting))
    store.save(setting.key(), original)
    rate, test = original.facts["sample_passes"] / seconds, original.facts["test_accuracy"]
    print(f"{'original':15} {seconds:8.1f} s, {rate:8.0f} images/s, test accuracy {test:.3f}")
    runs = len(cells_of(spec)) * spec.budget.replicates
    total = seconds * len(spec.corruptions) * spec.budget.replicates
    for method, space in study.spaces.items():
        trial = Trial(cell, method, space.defaults, 0)
        seconds, row = seconds_of(partial(run_trial, spec, trial, store, device))
        total += seconds * runs
        score = row["error"] if row["state"] == "failed" else f"utility x healed {row['utility_x_healed']:.3f}"
        print(f"{method:15} {seconds:8.1f} s, {score}", flush=True)
    print(f"the sweep, {runs} runs of each method and its originals, one after another: {total / 3600:.2f} h")


if __name__ == "__main__":
    main()
