"""Healing a network that was trained elsewhere. Knows torch alone: for notebooks as for the command line."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet, Dataset
from rem_study.errors import InputError
from rem_study.models.own_model import has_sites, unwrapped, with_sites
from rem_study.seeds import derive_seed, seeded
from rem_study.spec import Configuration, RecipeSpec, SearchSpace, load_space
from rem_study.spec.space import Value
from rem_study.training import accuracy, given_label_accuracy, predict_training, test_predictions
from rem_study.unlearning import UnlearningTask, needed_original, unlearn

Say = Callable[[str], None]
"""Told of each step as it begins."""

_NARROWING = ("drop", "anneal")


@dataclass(frozen=True)
class Quality:
    """Accuracies of one network, each in [0, 1].

    Attributes:
        retain_accuracy: on the labels of the retain set, undiscovered wrong ones included.
        forget_accuracy: on the forget set's wrong labels: what is to go.
        healed_discovered: on the clean labels of the forget set, where these are known; None where none is.
        test_accuracy: on the held-out images; None where there are none.
    """

    retain_accuracy: float
    forget_accuracy: float
    healed_discovered: float | None
    test_accuracy: float | None


@dataclass(frozen=True)
class Healing:
    """A healed network and what healing did to it.

    Attributes:
        network: of the class that was given, in evaluation mode; its parameters' names and shapes are the same.
        before, after: the qualities of the network given, and of the healed one.
        configuration: the hyperparameters, defaults filled in.
        epochs: see `Unlearned`. sample_passes: see `Unlearned`.
        seconds: wall-clock time of unlearning alone.
        score_deployable: retain accuracy x (1 - max(forget accuracy, chance)) after healing: what can be known
            without clean labels, as in a study's tables.
    """

    network: nn.Module
    before: Quality
    after: Quality
    configuration: Configuration
    epochs: float
    sample_passes: int
    seconds: float
    score_deployable: float

    @property
    def kept(self) -> float:
        """What is left of the accuracy, as a share: of the held-out one where more of that is left than of the retained
        one, since healing gives up the retained samples' wrong labels."""
        return max(_share_left(self.before.retain_accuracy, self.after.retain_accuracy), self.kept_held_out)

    @property
    def kept_held_out(self) -> float:
        """What is left of the held-out accuracy, as a share; 0 where there are no held-out images."""
        before, after = self.before.test_accuracy, self.after.test_accuracy
        return 0.0 if before is None or after is None else _share_left(before, after)


def heal(
    network: nn.Module,
    dataset: Dataset,
    forget_ids: Tensor | Sequence[int],
    configuration: Mapping[str, Value] | None = None,
    *,
    method: str = "rem",
    space: SearchSpace | None = None,
    recipe: RecipeSpec | None = None,
    clean_labels: Tensor | None = None,
    fresh_network: Callable[[], nn.Module] | None = None,
    seed: int = 0,
) -> Healing:
    """Unlearn the samples known to be corrupted.

    Args:
        network: images float32 (B, C, H, W), as `dataset` normalises them, to logits (B, K), alone or called `logits`
            among other outputs, K at least the number of classes; on the device of `dataset`. It is not changed.
        dataset: training images with their labels as they are, wrong ones included; test images if there are any.
        forget_ids: int64 (n,), n at least 2: places of the samples known to be corrupted in the training set.
        configuration: hyperparameters of `method`; those left out are at their defaults.
        space: the search space that `configuration` must lie in; default: the method's own.
        recipe: how the network was trained; methods take the kind of optimiser from it. Default: SGD as in studies.
        clean_labels: int64 (m,), true labels of the first m of `forget_ids`. They are measured by and never reach the
            method.
        fresh_network: gives a newly initialised network like `network`, on the same device, to the methods that
            need one (`retrain`, `eu_k`, `msg`, `bad_teacher`).
        seed: of everything random in the method.

    Raises:
        InputError: an id or hyperparameter out of its range, a network that cannot take the images or gives no
            logits (probabilities, say), a method that does not apply, a configuration whose result would have other
            parameters than `network`.
        UnlearningError: a loss or weight was not finite.
    """
    configuration = check_configuration(method, configuration or {}, space)
    task = pose(network, dataset, forget_ids, recipe, fresh_network, seed)
    original, data = task.network, task.data
    before = _measure(original, dataset, data, task.forget_ids, task.retain_ids, clean_labels)
    names_and_shapes = _names_and_shapes(original)
    start = time.perf_counter()
    unlearned = unlearn(method, task, configuration)
    seconds = time.perf_counter() - start
    if _names_and_shapes(unlearned.network) != names_and_shapes:
        raise InputError(f"method: {method} gives a network with other parameters than the one it was given")
    after = _measure(unlearned.network, dataset, data, task.forget_ids, task.retain_ids, clean_labels)
    healed = unlearned.network if has_sites(network) else unwrapped(unlearned.network)
    score = after.retain_accuracy * (1 - max(after.forget_accuracy, task.chance))
    return Healing(
        healed.eval(), before, after, configuration, unlearned.epochs, unlearned.sample_passes, seconds, score
    )


def unchanged(healing: Healing, network: nn.Module) -> Healing:
    """The outcome of leaving `network`, which `healing` was made from, as it is."""
    before = healing.before
    score = before.retain_accuracy * (1 - before.forget_accuracy)
    copied = copy.deepcopy(network).eval()
    return replace(
        healing, network=copied, after=before, epochs=0.0, sample_passes=0, seconds=0.0, score_deployable=score
    )


def pose(
    network: nn.Module,
    dataset: Dataset,
    forget_ids: Tensor | Sequence[int],
    recipe: RecipeSpec | None = None,
    fresh_network: Callable[[], nn.Module] | None = None,
    seed: int = 0,
) -> UnlearningTask:
    """The task of unlearning these samples from a copy of `network`; arguments and errors as of `heal`."""
    forget, retain = _split(forget_ids, dataset)
    channels, height, width = dataset.train_images.shape[1:]
    original = with_sites(copy.deepcopy(network), (channels, height, width)).requires_grad_(True)
    _check_network(original, dataset)

    def fresh() -> nn.Module:
        if fresh_network is None:
            raise InputError("method: it starts from a new network, and heal was given no fresh_network")
        return with_sites(fresh_network(), (channels, height, width))

    return UnlearningTask(
        network=original.train(),
        data=CorruptedTrainingSet(dataset, None),
        forget_ids=forget,
        retain_ids=retain,
        recipe=recipe or RecipeSpec(),
        seed=derive_seed("heal", seed),
        fresh_network=fresh,
    )


def check_configuration(
    method: str, configuration: Mapping[str, Value], space: SearchSpace | None = None
) -> Configuration:
    """`configuration` filled up with defaults, REM's `deactivate` as `drop`. Raises InputError where it lies out of its
    space or cannot heal a network that is to keep its parameters."""
    complete = (space or load_space(method)).complete(dict(configuration))
    kind = needed_original(method)
    if kind not in (None, "standard"):
        raise InputError(f"method: {method} works on networks of a study alone (original.kind: {kind})")
    if method == "rem" and complete["erase_mode"] == "deactivate":
        complete["erase_mode"] = "drop"  # channels held at zero or none at all: the same function
    if method == "rem" and complete["erase_mode"] not in _NARROWING:
        raise InputError(
            f"erase_mode: {complete['erase_mode']!r} keeps the new channels, but a healed network has the "
            "parameters of the original alone; 'drop', 'anneal' and 'deactivate' do without them"
        )
    if complete.get("forget_mask") == "ideal":
        raise InputError("forget_mask: 'ideal' needs every corrupted sample; it is for comparisons in a study alone")
    return complete


def normalised_by(dataset: Dataset, mean: Iterable[float] | None, std: Iterable[float] | None) -> Dataset:
    """`dataset`, normalising by other moments than its training pixels' own.

    Args:
        mean, std: for pixels in [0, 1], one number or one a channel; None: the training pixels'.

    Raises:
        InputError: neither one number nor one a channel, or a `std` that is not positive.
    """
    channels = dataset.train_images.shape[1]
    changed = replace(dataset)
    for name, given in (("mean", mean), ("std", std)):
        if given is None:
            vars(changed)[name] = getattr(dataset, name)
            continue
        values = [float(value) for value in given]
        if len(values) not in (1, channels):
            raise InputError(f"{name}: {len(values)} numbers for images of {channels} channel(s)")
        if not all(math.isfinite(value) and (name == "mean" or value > 0) for value in values):
            raise InputError(f"{name}: must be finite{' and above 0' if name == 'std' else ''}")
        moments = torch.tensor(values, device=dataset.device)
        vars(changed)[name] = moments.expand(channels).reshape(1, -1, 1, 1)
    return changed


def _split(ids: Tensor | Sequence[int], dataset: Dataset) -> tuple[Tensor, Tensor]:
    total = len(dataset.train_labels)
    forget = torch.as_tensor(ids, dtype=torch.int64).flatten().cpu()
    wrong = forget[(forget < 0) | (forget >= total)].tolist()
    if wrong:
        raise InputError(f"forget_ids: {wrong[0]} is no training sample; there are {total}, counted from 0")
    if len(forget.unique()) < len(forget):
        raise InputError("forget_ids: an id stands twice")
    if not 2 <= len(forget) <= total - 2:
        raise InputError(f"forget_ids: {len(forget)} of {total}; the forget set and the rest need two samples each")
    retained = torch.ones(total, dtype=torch.bool)
    retained[forget] = False
    device = dataset.train_labels.device
    if 2 * len(forget) > total:
        raise InputError(
            f"forget_ids: {len(forget)} of {total} training samples are more than half; only corrupted ones"
        )
    return forget.to(device), retained.nonzero().squeeze(1).to(device)


@torch.no_grad()
def _check_network(network: nn.Module, dataset: Dataset) -> None:
    """Raise InputError unless `network` turns images into logits, in evaluation and while it trains."""
    images = dataset.training_images(torch.arange(2))
    shape = " x ".join(map(str, images.shape[1:]))
    checked = copy.deepcopy(network)  # batch norm counts what it sees
    for mode, subject in ((False, "the network"), (True, "while it trains, the network")):
        try:
            with seeded(images.device, "check"):
                logits = checked.train(mode)(images)
        except Exception as error:  # whatever the network's own code raises
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"model: {subject} cannot take images of {shape} pixels: {reason}") from None
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
            raise InputError(
                f"model: {subject} gives {_form(logits)}; it must give logits (B, K), one row an image, alone or "
                "called `logits` among others"
            )
        if logits.shape[1] < dataset.num_classes:
            raise InputError(
                f"model: {subject} tells {logits.shape[1]} classes apart; the data have {dataset.num_classes}"
            )
        if not logits.isfinite().all():
            raise InputError(f"model: {subject} gives logits that are not finite (its weights, or a mask of -inf?)")
    if logits.min() >= 0 and ((logits.double().sum(1) - 1).abs() < 1e-3).all():
        raise InputError(
            "model: the network gives probabilities, not logits; leave out the softmax that it ends in (the weights "
            "stay the same)"
        )


def _form(given: object) -> str:
    if isinstance(given, Tensor):
        return f"{' x '.join(map(str, given.shape)) or 'a scalar'} for 2 images"
    return "nothing" if given is None else f"a {type(given).__name__}"


def _measure(
    network: nn.Module,
    dataset: Dataset,
    data: CorruptedTrainingSet,
    forget: Tensor,
    retain: Tensor,
    clean_labels: Tensor | None,
) -> Quality:
    tested = len(dataset.test_labels) > 0
    known = None
    if clean_labels is not None:
        predicted = predict_training(network, data, forget[: len(clean_labels)])
        known = accuracy(predicted, clean_labels.to(forget.device))
    return Quality(
        retain_accuracy=given_label_accuracy(network, data, retain),
        forget_accuracy=given_label_accuracy(network, data, forget),
        healed_discovered=known,
        test_accuracy=accuracy(test_predictions(network, dataset), dataset.test_labels) if tested else None,
    )


def _share_left(before: float, after: float) -> float:
    return after / max(before, 1e-9)


def _names_and_shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}
