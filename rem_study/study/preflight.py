"""What has to be right before anything is started, beyond what the study file alone can tell."""

from __future__ import annotations

from typing import Any

from rem_study.data import Dataset
from rem_study.data.given import read_known
from rem_study.data.survey import Survey, survey
from rem_study.errors import InputError
from rem_study.models import select_sites
from rem_study.spec import DataSpec, Study, load_space
from rem_study.spec.corruption import GivenSpec
from rem_study.spec.yaml_file import one_line
from rem_study.trial import Setting
from rem_study.unlearning import needed_original


def surveyed_data(study: Study, origin: str) -> Survey | None:
    """See `survey`. Raises InputError, naming file and field."""
    try:
        return survey(study.spec.data)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def preflight(study: Study, origin: str, data: Dataset | None = None) -> list[str]:
    """Check what only the data can tell: files, class numbers, enough samples, layer positions.

    Args:
        data: a stand-in for the study's; None: they are loaded.

    Returns:
        what in the files was taken otherwise than it stands there, or left aside, and `sgd_rates`; a line each.

    Raises:
        InputError: naming file and field.
    """
    mistakes = []
    notes: list[str] = []
    try:
        for corruption in study.spec.corruptions:
            setting = Setting(study.spec, corruption, 0, loaded=data)
            drawn = setting.check()
            if isinstance(corruption, GivenSpec):
                given = read_known(corruption, setting.dataset)
                notes += [f"{one_line(corruption.file)}: {note}" for note in given.notes]
            if drawn.clean_labels is None and study.spec.objective == "score_oracle":
                mistakes.append(
                    f"{origin}: objective: score_oracle needs clean labels, corruptions.{corruption.name} has none; "
                    "score_deployable needs none"
                )
        notes = [*setting.dataset.notes, *notes]
        mistakes += _misfits(study, origin, setting.fresh_network("preflight"))
    except InputError as error:
        mistakes.append(f"{origin}: {error}")
    if mistakes:
        raise InputError("\n".join(mistakes))
    return [*notes, *sgd_rates(study)]


def sgd_rates(study: Study) -> list[str]:
    """A line, where methods are to step by Adam at the learning rates that they come with, which are SGD's."""
    optimizer = study.spec.original.optimizer
    if optimizer == "sgd":
        return []
    methods = [
        method
        for method, space in study.spaces.items()
        if "lr" in space.parameters and space.defaults["lr"] == load_space(method).defaults["lr"]
    ]
    if not methods:
        return []
    return [
        f"{', '.join(methods)}: methods step by original.optimizer, {optimizer}; their own learning rates are SGD's, "
        "which may be too large for it; methods.NAME.ranges.lr gives others"
    ]


def preflight_without_data(study: Study, origin: str) -> None:
    """Check what does not take the data themselves, which lie elsewhere: the network, layer positions.

    Raises:
        InputError: naming file and field.
    """
    data = study.spec.data
    known_size = data.image_size or _IMAGE_SIZES.get(data.name)
    stand_in = study.spec.model_copy(update={"data": DataSpec(image_size=known_size or 64)})
    try:
        network = Setting(stand_in, stand_in.corruptions[0], 0).fresh_network("preflight")
        mistakes = _misfits(study, origin, network)
    except InputError as error:
        mistakes = [f"{origin}: {error}"] if known_size else []  # images of their own size may fit
    if data.root is None and data.name != "digits":
        mistakes.append(f"{origin}: data.root: {data.name} needs a path")
    if mistakes:
        raise InputError("\n".join(mistakes))


_IMAGE_SIZES = {"digits": 16, "fashion_mnist": 28, "cifar10": 32, "svhn": 32}


def _misfits(study: Study, origin: str, network: Any) -> list[str]:
    """What the methods ask for and this network, or the original, does not have."""
    mistakes = []
    for method, space in study.spaces.items():
        needed = needed_original(method)
        if needed not in (None, study.spec.original.kind):
            mistakes.append(f"{origin}: methods.{method}: needs original.kind: {needed}")
        position = space.parameters.get("layer_position")
        for choice in [] if position is None else [position.default, *getattr(position, "choices", [])]:
            try:
                select_sites(network.sites(), str(choice))
            except InputError as error:
                mistakes.append(f"{origin}: methods.{method}: {error}")
    return mistakes
