"""Which network a study heals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from rem_study.spec.frozen import Frozen, PositiveInt

Width = Annotated[float, Field(gt=0, le=16)]


class ResNet9Spec(Frozen):
    """The paper's convolutional network."""

    name: Literal["resnet9"] = "resnet9"
    width: Width = Field(1.0, description="multiplies every layer's channels")


class VitSpec(Frozen):
    """The paper's transformer, for small images."""

    name: Literal["vit"]
    width: Width = Field(1.0, description="multiplies features (512), hidden units (1,536) and heads (8)")
    depth: Annotated[int, Field(gt=0, le=256)] = Field(4, description="blocks")
    patch_size: PositiveInt = Field(8, description="pixels a side; it divides the image size")


class TorchvisionSpec(Frozen):
    """One of torchvision's classifiers, newly initialised."""

    name: Annotated[str, Field(pattern=r"^torchvision/\w+$")]
    small_input: bool | None = Field(
        None,
        description="a ResNet's stem for images up to 64 pixels (3x3, stride 1, no pooling); default: ResNets have it",
    )


class TimmSpec(Frozen):
    """One of timm's classifiers (`pip install 'rem-study[timm]'`), newly initialised."""

    name: Annotated[str, Field(pattern=r"^timm/[\w.-]+$")]


def _model_kind(value: Any) -> str | None:
    name = value.get("name", "resnet9") if isinstance(value, dict) else getattr(value, "name", None)
    if isinstance(name, str) and name.startswith("torchvision/"):
        return "<torchvision>"
    if isinstance(name, str) and name.startswith("timm/"):
        return "<timm>"
    return f"<{name}>" if name in ("resnet9", "vit") else None


ModelSpec = Annotated[
    Annotated[ResNet9Spec, Tag("<resnet9>")]
    | Annotated[VitSpec, Tag("<vit>")]
    | Annotated[TorchvisionSpec, Tag("<torchvision>")]
    | Annotated[TimmSpec, Tag("<timm>")],
    Discriminator(
        _model_kind,
        custom_error_type="model_name",
        custom_error_message="must be a mapping whose name is resnet9, vit, torchvision/NAME or timm/NAME",
        custom_error_context={"known": ["resnet9", "vit"]},
    ),
]
