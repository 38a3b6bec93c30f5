"""Documents: study file, search spaces, best.yaml; checked once, at the border, and frozen.

It imports no torch: a wrong file is refused before anything heavy is loaded.
"""

from rem_study.spec.cell import cell_name
from rem_study.spec.data import DataSpec, OwnDataSpec
from rem_study.spec.original import RecipeSpec
from rem_study.spec.resolve import load_study
from rem_study.spec.space import Configuration, SearchSpace, load_space
from rem_study.spec.study import Study, StudySpec

__all__ = [
    "Configuration",
    "DataSpec",
    "OwnDataSpec",
    "RecipeSpec",
    "SearchSpace",
    "Study",
    "StudySpec",
    "cell_name",
    "load_space",
    "load_study",
]
