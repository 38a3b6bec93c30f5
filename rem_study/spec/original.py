"""How a study's originals are trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from rem_study.spec.frozen import Frozen, NotNegative, PositiveFloat, PositiveInt, Share

Precision = Literal["float32", "bfloat16"]
Compile = Literal["none", "default", "graphs"]


class RecipeSpec(Frozen):
    """How the original is trained; `retrain` uses it again."""

    kind: Literal["standard", "etd", "half_capacity"] = "standard"
    optimizer: Literal["sgd", "adam"] = "sgd"
    epochs: PositiveInt = 40
    batch_size: Annotated[int, Field(ge=2, le=1_000_000_000)] = 512
    lr: PositiveFloat = 0.025
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    warmup: Share = Field(0.01, description="share of the steps in which the learning rate rises")
    final_lr: Annotated[float, Field(ge=0, le=1)] = Field(0.2, description="learning rate at the end / at its top")


class EtdRecipeSpec(RecipeSpec):
    """With example-tied dropout: of each site's channels the first are always on, each other one for a share of the
    samples, fixed by their ids (Maini et al. 2023)."""

    kind: Literal["etd"]
    p_gen: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="share of the channels that is always on")
    p_mem: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of the samples each other one is on for")


class HalfCapacityRecipeSpec(RecipeSpec):
    """At half capacity: the second half of each site's channels is silent; REM wakes it (the released code)."""

    kind: Literal["half_capacity"]


def _original_kind(value: Any) -> str | None:
    kind = value.get("kind", "standard") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"<{kind}>" if kind in ("standard", "etd", "half_capacity") else None


OriginalSpec = Annotated[
    Annotated[RecipeSpec, Tag("<standard>")]
    | Annotated[EtdRecipeSpec, Tag("<etd>")]
    | Annotated[HalfCapacityRecipeSpec, Tag("<half_capacity>")],
    Discriminator(
        _original_kind,
        custom_error_type="original_kind",
        custom_error_message="must be a mapping whose kind is standard, etd or half_capacity",
    ),
]
