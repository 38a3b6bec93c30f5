"""SAP, scaled activation projection (Kodge et al. 2025, arXiv 2403.08618): one update, no gradient.

1. Trusted samples: the `trusted_samples` with the lowest cross-entropy on their given labels under the original, in
   evaluation mode.
2. For each convolution and linear layer, the matrix of its inputs over the trusted samples, a row a patch or token.
   U are its right singular vectors, p_i = sigma_i^2 / sum sigma^2 what each takes of the whole.
3. Scale them by lambda_i = alpha p_i / ((alpha - 1) p_i + 1): alpha 1 leaves the shares themselves, a large alpha
   nearly the identity.
4. W <- W P^T with P = U diag(lambda) U^T, W being a row an output. Biases and norms stay.
5. Ours: the batch norms' statistics are estimated again on retained samples. The projection shrinks what comes into the
   norms, and with the statistics of before a small alpha leaves a network that says one class. On digits, utility x
   healed (mean of the quickstart's nine cells) with the old statistics and with new ones was 0.01 and 0.73 at alpha
   100, 0.06 and 0.78 at 300, 0.70 and 0.74 at 1000, 0.53 and 0.48 at 4000.

Ours, too: samples to trust are looked for in the retain set, where the paper has held-out noisy data (all of it is
trusted where it has no more); of each image at most `POSITIONS` patches or tokens are taken, drawn by the seed; U and p
come from the second moments, which need no memory for the rows; the groups of a grouped convolution have a projection
each. A layer whose weight is used without calling it (torchvision's attention) stays as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.data.transfer import send
from rem_study.errors import UnlearningError
from rem_study.models import evaluating
from rem_study.models.obstacles import require_plain
from rem_study.seeds import generator
from rem_study.training.evaluation import BATCH
from rem_study.unlearning.norm_statistics import estimate_statistics
from rem_study.unlearning.objectives import sample_cross_entropy
from rem_study.unlearning.task import Unlearned, UnlearningTask

POSITIONS = 64  # of an image whose patches or tokens are looked at, the same ones throughout a batch
IMAGES = 64  # whose patches are held at once

Layer = nn.Conv2d | nn.Linear
Spectrum = dict[str, Tensor]
"""Of the inputs of a layer with G groups: `directions` (G, D, D), a column each, and their `shares` (G, D)."""


def unlearn(task: UnlearningTask, *, alpha: float, trusted_samples: int) -> Unlearned:
    """Heal `task.network` without a training step; hyperparameters as in `search_spaces/sap.yaml`.

    `sample_passes` counts the forward passes of steps 1 and 2, since there are no others.

    Raises:
        InputError: a layer's weight is made from others.
        UnlearningError: an activation was not finite.
    """
    network = task.network
    require_plain(network, "sap")
    spectra = task.once(
        ("input spectra", trusted_samples), lambda: compute_spectra(task, select_trusted(task, trusted_samples))
    )
    with torch.no_grad():
        for name, spectrum in spectra.items():
            weight = network.get_parameter(f"{name}.weight")
            weight.copy_(project(weight, spectrum, alpha))
    estimate_statistics(task, network)
    return Unlearned(network, 1, len(task.retain_ids) + min(trusted_samples, len(task.retain_ids)))


@torch.no_grad()
def select_trusted(task: UnlearningTask, count: int) -> Tensor:
    """The retained samples, int64 (count,) or all, whose cross-entropy on their given labels is lowest, in order."""
    network, data = task.network, task.data
    with evaluating(network):
        losses = [
            sample_cross_entropy(network(data.images(ids)), data.labels[ids]) for ids in task.retain_ids.split(BATCH)
        ]
    return task.retain_ids[torch.cat(losses).argsort(stable=True)[:count]]


@torch.no_grad()
def compute_spectra(task: UnlearningTask, ids: Tensor) -> dict[str, Spectrum]:
    """The spectrum of the inputs over the samples `ids`, for each convolution and linear layer that is called, by name.

    Raises:
        UnlearningError: an input was not finite.
    """
    rng = generator("patches", task.seed)
    moments: dict[str, Tensor] = {}

    def watch(name: str, layer: Layer) -> torch.utils.hooks.RemovableHandle:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # In double precision: directions of small shares count, and mixed precision leaves it alone.
            rows = input_rows(layer, inputs[0], rng).double().transpose(0, 1)
            moments[name] = moments.get(name, 0) + rows.mT @ rows

        return layer.register_forward_pre_hook(add)

    hooks = [watch(name, module) for name, module in task.network.named_modules() if isinstance(module, Layer)]
    try:
        with evaluating(task.network):
            for part in ids.split(IMAGES):
                task.network(task.data.images(part))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _spectrum(moment) for name, moment in moments.items()}


def _spectrum(moment: Tensor) -> Spectrum:
    """Of second moments (G, D, D)."""
    if not moment.isfinite().all():
        raise UnlearningError("an activation is not finite")
    values, directions = torch.linalg.eigh(moment)
    values = values.clamp(min=0)
    total = values.sum(-1, keepdim=True)
    return {"directions": directions.float(), "shares": values / torch.where(total > 0, total, 1)}


def input_rows(layer: Layer, inputs: Tensor, rng: torch.Generator) -> Tensor:
    """What the rows of the layer's weight matrix are multiplied with, (N, G, D): N patches or tokens, G groups.

    D is in the order of `weight.flatten(1)`. N is the batch size times the positions, `POSITIONS` of them drawn where
    there are more.

    Args:
        inputs: (B, C, H, W) of a convolution, (B, ..., D) of a linear layer.
    """
    if isinstance(layer, nn.Linear):
        tokens = inputs.flatten(1, -2) if inputs.ndim > 2 else inputs[:, None]
        return tokens[:, _draw(tokens.shape[1], rng, inputs.device)].flatten(0, 1)[:, None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode)
    reach = [spread * (kernel - 1) for spread, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    height, width = (
        (size - more - 1) // stride + 1
        for size, more, stride in zip(padded.shape[2:], reach, layer.stride, strict=True)
    )
    chosen = _draw(height * width, rng, inputs.device)
    rows, columns = (
        place[:, None] * stride + torch.arange(0, more + 1, spread, device=inputs.device)
        for place, stride, more, spread in zip(
            (chosen // width, chosen % width), layer.stride, reach, layer.dilation, strict=True
        )
    )
    patches = padded[:, :, rows[:, :, None], columns[:, None, :]]  # (B, C, positions, kernel, kernel)
    return patches.transpose(1, 2).flatten(0, 1).unflatten(1, (layer.groups, -1)).flatten(2)


def _draw(count: int, rng: torch.Generator, device: torch.device) -> Tensor:
    return send(torch.randperm(count, generator=rng)[:POSITIONS], device)


def project(weight: Tensor, spectrum: Spectrum, alpha: float) -> Tensor:
    """W P^T, P = U diag(lambda) U^T, of a weight (O, ...) whose outputs are dealt to the spectrum's groups."""
    directions, shares = spectrum["directions"].double(), spectrum["shares"]
    importances = alpha * shares / ((alpha - 1) * shares + 1)
    matrix = weight.double().unflatten(0, (len(directions), -1)).flatten(2)
    return ((matrix @ directions * importances[:, None]) @ directions.mT).view_as(weight).to(weight.dtype)
