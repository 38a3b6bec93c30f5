"""Which packages the wheel has; everything else is in pyproject.toml.

`search_spaces/` and `studies/` stand at the top of the checkout, where people look for them, and are installed inside
`rem_study/`. Declaring that there too would mean listing every subpackage by hand.
"""

from setuptools import find_packages, setup

SHIPPED = {f"rem_study.{name}": name for name in ("search_spaces", "studies")}

setup(
    packages=[*find_packages(include=["rem_study", "rem_study.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"rem_study": ["py.typed", "report/assets/*"], **{name: ["*.yaml"] for name in SHIPPED}},
)
