"""Networks, where they can be widened, and what becomes of the channels that took the corruption.

They know images and masks, and no sample's label: whose mask is whose is the caller's matter.
"""

from rem_study.models.build import build_model
from rem_study.models.mode import evaluating
from rem_study.models.redirect import ExpandedNetwork
from rem_study.models.site import select_sites
from rem_study.models.split import SplitNetwork

__all__ = ["ExpandedNetwork", "SplitNetwork", "build_model", "evaluating", "select_sites"]
