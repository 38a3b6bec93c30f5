"""Under which changes of an image a network is asked what it is of.

A network that was trained on images moved and mirrored at random has learnt that this changes nothing. Asked about
several such views of an image, it says on the mean of its logits what it has learnt, and less of what it has by heart
or mistakes in the one view that happens to be stored: of half-memorised networks lists of suspects are far better so
(docs/heal-measured.md). One that was trained on images as they are knows them by heart as they are, and is asked so.
Which of the two it is shows in how many labels it gives: nobody has to say.

The mean over views of an image is test-time augmentation (Krizhevsky et al. 2012, section 4.1); that it tells wrong
labels, and which views are taken, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet
from rem_study.seeds import generator
from rem_study.unlearning.suspicion import training_logits

SIZE_OF_A_STEP = 32
"""Images are moved by one pixel in so many, and at least by one."""

ASKED = 10_000
"""Samples, drawn at random, that show which views suit a network."""

LEARNT = 0.5
"""Of these, that a network gives their label: one that gives fewer tells nothing of views."""


@dataclass(frozen=True)
class View:
    """Images moved by so many steps, their edges repeated, and mirrored left to right or not."""

    down: int = 0
    right: int = 0
    mirrored: bool = False

    @property
    def moved(self) -> bool:
        """Whether it moves images."""
        return bool(self.down or self.right)

    def __call__(self, images: Tensor) -> Tensor:
        """Of float (B, C, H, W), the same."""
        if self.mirrored:
            images = images.flip(-1)
        if not self.moved:
            return images
        height, width = images.shape[-2:]
        by = max(1, min(height, width) // SIZE_OF_A_STEP)
        padded = F.pad(images, (by,) * 4, mode="replicate")
        top, left = by - self.down * by, by - self.right * by
        return padded[..., top : top + height, left : left + width]


Views = tuple[View, ...]

_STEPS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
AS_THEY_ARE: Views = (View(),)
OFFERED: tuple[Views, ...] = (
    AS_THEY_ARE,
    (View(), View(mirrored=True)),
    tuple(View(*step) for step in _STEPS),
    tuple(View(*step, mirrored) for step in _STEPS for mirrored in (False, True)),
)
"""From few to many."""


def suiting(network: nn.Module, data: CorruptedTrainingSet, retained: Tensor) -> Views:
    """Of OFFERED those under which the network gives the most `retained` samples, int64 (M,), their given label; of
    equals the fewest. ASKED of the samples are asked about."""
    order = torch.randperm(len(retained), generator=generator("views"))[:ASKED]
    some = retained[order.to(retained.device)]
    labels = data.labels[some].cpu()
    said = {view: training_logits(network, data, some, (view,)) for view in OFFERED[-1]}

    def given(views: Views) -> float:
        mean = torch.stack([said[view] for view in views]).mean(0)
        return (mean.argmax(1) == labels).double().mean().item()

    return max(OFFERED, key=given) if given(AS_THEY_ARE) >= LEARNT else AS_THEY_ARE
