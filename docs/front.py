"""README's first picture: a network that learnt wrong labels, before and after `rem-study heal`.

    python docs/front.py [docs/front.png]

A ResNet-9 that plain PyTorch trained on 1,200 digits, 48 of them under a label drawn at random
(tests/doubles/corrupted.py); 14 of the 48 are known; healed as `rem-study heal` does unasked. The pictures are of
samples that nobody named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib
import torch

from rem_study.heal.request import HealRequest, heal_checkpoint
from rem_study.models.resnet9 import ResNet9

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from doubles.corrupted import MODEL, as_trained, corrupted_digits  # noqa: E402

KNOWN, SHOWN = 14, 10
WRONG, RIGHT, INK = "#b3261e", "#1b6e3c", "#333333"


def predictions(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    network = ResNet9(1, 10, 0.125)
    network.load_state_dict(state)
    with torch.no_grad():
        return network.eval()(images).argmax(1)


def main(path: Path) -> None:
    case = corrupted_digits("random_label")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.write(folder, case.wrong[:KNOWN])
        given = (folder / "model.pt", MODEL, str(folder / "data.npz"), folder / "known.csv")
        outcome = heal_checkpoint(HealRequest(*given, mean=(0.5,), std=(0.5,)))
        print(*outcome.lines, sep="\n")
        healed = torch.load(outcome.output)
    seen = case.files["train_images"][case.wrong]
    inputs, clean = as_trained(seen), torch.from_numpy(case.clean[case.wrong])
    tested, truth = as_trained(case.files["test_images"]), torch.from_numpy(case.files["test_labels"])
    rows = []
    for title, state in (("before", case.state), ("after", healed)):
        told = predictions(state, inputs)
        right = (told == clean).double().mean().item()
        accuracy = (predictions(state, tested) == truth).double().mean().item()
        rows.append((title, told, right, accuracy))
        print(f"{title}: right {right:.3f}, accuracy on clean digits {accuracy:.3f}")

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(10.5, 3.7))
    for part, (title, told, right, accuracy) in zip(figure.subfigures(2, 1), rows, strict=True):
        line = part.subplots(1, SHOWN, gridspec_kw={"left": 0.01, "right": 0.99, "top": 0.80, "bottom": 0.20})
        told_line = f"{title} healing: {right:.0%} of the corrupted samples right, {accuracy:.1%} of clean test samples"
        part.text(0.012, 0.87, told_line, fontsize=12.5, color=INK)
        for place, axis in enumerate(line):
            number = KNOWN + place
            label, truly = int(told[number]), int(clean[number])
            axis.imshow(seen[number], cmap="gray")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"“{label}”", fontsize=15, color=RIGHT if label == truly else WRONG, labelpad=2)
            for spine in axis.spines.values():
                spine.set_visible(False)
    figure.savefig(path, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "front.png")
