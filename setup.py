"""Which packages the wheel has; everything else is in pyproject.toml.

`search_spaces/` stands at the top of the checkout, where people look for it, and is installed as
`rem_study/search_spaces/`. Declaring that there too would mean listing every subpackage by hand.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rem_study", "rem_study.*"]), "rem_study.search_spaces"],
    package_dir={"rem_study.search_spaces": "search_spaces"},
    package_data={"rem_study.search_spaces": ["*.yaml"]},
)
