"""Example-tied dropout, drop mode (Maini et al. 2023, arXiv 2307.09542): what was memorised has channels of its own.

1. Drop the memorisation channels.
2. Scale the generalisation channels by (p_gen + p_mem) / p_gen, for the share of channels that training had on.
   Behind a batch norm that share is normalised already, and the factor can do harm: `rescale: false` leaves it out.
"""

from __future__ import annotations

from rem_study.errors import UnlearningError
from rem_study.models import SplitNetwork
from rem_study.spec.original import EtdRecipeSpec
from rem_study.unlearning.task import Unlearned, UnlearningTask

NEEDS_ORIGINAL = "etd"


def unlearn(task: UnlearningTask, *, rescale: bool) -> Unlearned:
    """Heal `task.network` without a training step; hyperparameters as in `search_spaces/etd_drop.yaml`.

    Raises:
        UnlearningError: the original was not trained with example-tied dropout.
    """
    network, recipe = task.network, task.recipe
    if not isinstance(network, SplitNetwork) or not isinstance(recipe, EtdRecipeSpec):
        raise UnlearningError("etd_drop needs an original trained with example-tied dropout (original.kind: etd)")
    network.keep_generalisation((recipe.p_gen + recipe.p_mem) / recipe.p_gen if rescale else 1.0)
    return Unlearned(network, 0, 0)
