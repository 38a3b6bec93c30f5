"""What every part of a study file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
LocalPath = Annotated[str, Field(min_length=1), AfterValidator(lambda path: str(Path(path).expanduser().absolute()))]
"""Made absolute at once: workers have working directories of their own."""


class Frozen(BaseModel):
    """Checked once, at the border; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
