"""Architectures of one's own, and by name."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inputs.case import Case

KIND = "Architectures"
NEED_NONE = "; methods that need none: acdc, ascent, bad_teacher"


def factory(name: str, image: tuple[int, ...] = (1, 12, 12)) -> Callable[[Path], dict[str, Any]]:
    """A checkpoint of mymodels.NAME."""

    def make(place: Path) -> dict[str, Any]:
        if "another" in name:  # no image gives it its sizes
            return {"model": f"mymodels:{name}"}
        network = made(place, name)
        if "lazy" in name:
            network.eval()(torch.zeros(2, *image))
        torch.save(network.state_dict(), place / "mine.pt")
        return {"model": f"mymodels:{name}", "checkpoint": "mine.pt"}

    return make


def timm(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        import timm

        torch.save(timm.create_model(name, num_classes=10, in_chans=1).state_dict(), place / "mine.pt")
        data = "{name: npz, root: data.npz, image_size: 32}"
        return {"model": f"timm/{name}", "checkpoint": "mine.pt", "data": data}

    return make


def googlenet(model: str) -> Callable[[Path], dict[str, Any]]:
    """A checkpoint of it as torchvision makes it, with the auxiliary classifiers that only training runs."""

    def make(place: Path) -> dict[str, Any]:
        torch.save(made(place, "googlenet").state_dict(), place / "mine.pt")
        data = "{name: npz, root: data.npz, image_size: 64}"
        return {"model": model, "checkpoint": "mine.pt", "data": data}

    return make


def hugging_face(place: Path) -> dict[str, Any]:
    made(place, "hugging_face").save_pretrained(place / "saved")
    return {"model": "mymodels:hugging_face", "checkpoint": "saved/model.safetensors"}


def made(place: Path, name: str) -> Any:
    """What mymodels.NAME makes."""
    return runpy.run_path(str(place / "mymodels.py"))[name]()


def taken(what: str, make: Any, *notes: str, method: str = "rem", needs: str | None = None) -> Case:
    return Case(KIND, what, make, None, notes, method=method, needs=needs)


def refused(what: str, make: Any, says: str, needs: str | None = None, method: str = "rem") -> Case:
    return Case(KIND, what, make, says, method=method, needs=needs)


def pair(what: str, name: str, says: str) -> list[Case]:
    """A network that REM cannot widen, and other methods take."""
    return [
        refused(f"{what}, REM", factory(name), says),
        taken(f"{what}, another method", factory(name), method="scrub"),
    ]


CASES = [
    taken("a factory of plain layers", factory("Base")),
    taken("lazy layers", factory("lazy")),
    refused("lazy layers that cannot take the images", factory("lazy_of_another_shape"),
            "its lazy layers cannot take images of 1 x 12 x 12"),
    *pair("a branch on the data in `forward`", "Depends",
          "torch.fx cannot trace it: mymodels.py, line 30, in forward: `if x.mean() > 100:`"),
    *pair("an `assert` on the data in `forward`", "AssertsContent", "in forward: `assert x.min() >= -100`"),
    *pair("a branch on the number of images", "ByBatch",
          "the path through it depends on the number of images in a batch"),
    taken("an `assert` on the images' shape in `forward`", factory("Asserts")),
    taken("a branch and a loop on the images' shape", factory("ByShape")),
    taken("a flag in `forward`'s arguments", factory("Flag")),
    *pair("a loop over the images in `forward`", "Loops", "torch.fx cannot trace it: mymodels.py"),
    *pair("weight norm", "weight_norm", "the weight of first and of 1 more of its layers is made by weight norm"),
    refused("weight norm, a method that changes weights themselves", factory("weight_norm"),
            "method: msg changes layers' weights themselves; that of first is made by weight norm", method="msg"),
    *pair("weight norm of the old kind", "old_weight_norm", "is made by weight norm"),
    *pair("spectral norm", "spectral_norm", "is made by spectral norm"),
    *pair("spectral norm of the old kind", "old_spectral_norm", "is made by spectral norm"),
    *pair("pruned layers", "pruned", "is made by pruning"),
    *pair("a single layer", "one_layer", "no convolution or linear layer feeds one other alone"),
    taken("several outputs, `logits` among them, REM", factory("Outputs")),
    taken("the same, another method", factory("Outputs"), method="scrub"),
    taken("Hugging Face's: a factory of `ResNetForImageClassification`, and what `save_pretrained` wrote",
          hugging_face),
    taken("auxiliary outputs beside `logits` while it trains, REM", factory("Auxiliary")),
    taken("torchvision's GoogLeNet with its auxiliary classifiers", googlenet("mymodels:googlenet"), method="finetune"),
    taken("`torchvision/googlenet`, which has none, and a checkpoint that has them", googlenet("torchvision/googlenet"),
          "mine.pt: kept as they are, being none of the network's: aux1.", method="finetune"),
    refused("a list of outputs while it trains", factory("DeepSupervision"),
            "while it trains, the network gives a list"),
    refused("a tuple of logits and features", factory("WithFeatures"),
            "the network gives a tuple; it must give logits"),
    refused("a map of logits (B, K, 1, 1)", factory("Map"), "gives 2 x 10 x 1 x 1 for 2 images"),
    refused("a softmax at its end", factory("Probabilities"), "gives probabilities, not logits"),
    taken("a log-softmax at its end", factory("LogProbabilities")),
    refused("a `forward` that fails", factory("Faulty"), "cannot take images of 1 x 12 x 12 pixels: 'logits'"),
    refused("logits that are NaN", factory("Diverged"), "gives logits that are not finite"),
    taken("timm's, by name: `timm/resnet18`", timm("resnet18"), needs="timm"),
    taken("`timm/mobilenetv3_small_050`", timm("mobilenetv3_small_050"), needs="timm", method="finetune"),
    refused("a name that timm does not have",
            lambda place: {"model": "timm/resnet19"}, "timm has no classifier 'resnet19'", needs="timm"),
    refused("timm's, and timm is not installed", lambda place: {"model": "timm/resnet18"},
            "pip install 'rem-study[timm]'", needs="no timm"),
]  # fmt: skip
