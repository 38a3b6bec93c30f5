"""What every part of a study file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Int = Annotated[int, Field(ge=0, lt=2**63)]
PositiveInt = Annotated[int, Field(gt=0, le=1_000_000_000)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _absolute(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8; rename it, or make a link to it that is") from None
    if "\0" in text:
        raise ValueError("no path holds a null character")
    try:
        return str(Path(text).expanduser().absolute())
    except RuntimeError as error:  # ~somebody who is not known here
        raise ValueError(str(error)) from None


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
"""Made absolute at once: workers have working directories of their own."""


class Frozen(BaseModel):
    """Checked once, at the border; an unknown key is an error, and so is a number in quotes or `yes` for 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
