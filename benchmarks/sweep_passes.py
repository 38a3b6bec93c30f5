"""How many images the paper's sweep takes through its network, and the hours that they take at a given pace. The passes
are the methods' own, so that no better data path or schedule goes below.

Each method of studies/paper-cifar10-resnet9.yaml runs at its default on random images of a narrow network, at the first
and the last discovery rate, and the images of its passes are counted: with a backward pass as one, without as a
third. Counted in passes over the training set they depend on neither network nor pixels nor number of images (but for
flushes, which end when the wrong labels are gone); a method that counts steps makes the fewer, the more images there
are. A run at each of the study's cells and seeds, and its originals, make the sweep.

    python benchmarks/sweep_passes.py [--pace 143800] [--samples 10240]

The default pace, in images/s, is the bare step of the paper's network, compiled and captured, on an H200
(docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from common import ROOT
from gpu_step import images_of, random_images

from rem_study.spec.resolve import load_study
from rem_study.trial.originals import OriginalStore, Setting, train_original
from rem_study.trial.trial import cells_of, pose
from rem_study.unlearning import unlearn

PAPER = ROOT / "studies" / "paper-cifar10-resnet9.yaml"
IMAGES = 50_000
COUNTS_STEPS = ("acdc",)
"""Methods that make a number of steps rather than of epochs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", type=float, default=143_800, help="images/s")
    parser.add_argument("--samples", type=int, default=10_240, help="training images that the passes are counted on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paper = load_study(PAPER).spec
    cells, seeds = len(cells_of(paper)), paper.budget.replicates
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "noise.npz"
        random_images(images, arguments.samples, pixels=12, channels=3)
        changes = (
            f"data={{name: npz, root: {images}, augment: true}}",
            "model.width=0.0625",
            f"corruptions=[{{name: random_label, samples: {arguments.samples // 50}}}]",
        )
        study = load_study(PAPER, changes)
        store = OriginalStore(Path(folder) / "originals")
        first, *_, last = cells_of(study.spec)
        setting = Setting(study.spec, first.corruption, 0)
        passes = {"originals": images_of(partial(train_original, setting)) / arguments.samples}
        runs = {"originals": len(paper.corruptions) * seeds}
        for method, space in study.spaces.items():
            counted = []
            for cell in (first, last):
                task = pose(study.spec, cell, 0, store).task
                counted.append(images_of(partial(unlearn, method, task, space.defaults)) / arguments.samples)
            share = arguments.samples / IMAGES if method in COUNTS_STEPS else 1.0
            passes[method] = statistics.mean(counted) * share
            runs[method] = cells * seeds
    hours = {name: passes[name] * runs[name] * IMAGES / arguments.pace / 3600 for name in passes}
    print(f"{'':16} passes a run   runs  hours at {arguments.pace:,.0f} images/s")
    for name in sorted(hours, key=hours.__getitem__, reverse=True):
        print(f"{name:16} {passes[name]:12.2f} {runs[name]:6} {hours[name]:6.2f}")
    print(f"{'all':16} {'':12} {sum(runs.values()):6} {sum(hours.values()):6.2f}")


if __name__ == "__main__":
    main()
