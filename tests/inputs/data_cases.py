"""Images and labels: NPZ archives, Parquet files, image folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from inputs.case import CORRUPTED, Case, digits, encoded, parts, write_folder
from PIL import Image

Make = Callable[[Path], dict[str, Any]]
NPZ, PARQUET, FOLDER = KINDS = ("NPZ", "Parquet", "Image folders")


def npz(**changes: Any) -> Make:
    """data.npz with arrays changed, renamed (a text) or left out (None)."""

    def make(place: Path) -> dict[str, Any]:
        arrays: dict[str, Any] = dict(parts())
        for name, change in changes.items():
            if isinstance(change, str):
                arrays[change] = arrays.pop(name)
            elif callable(change):
                arrays[name] = change(arrays[name])
            elif change is None:
                del arrays[name]
            else:
                arrays[name] = change
        np.savez(place / "mine.npz", **arrays)
        return {"data": "mine.npz"}

    return make


def both(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    return {f"{part}_{kind}": change for part in ("train", "test")}


def empty_blue(place: Path) -> dict[str, Any]:
    """Colours of which the third is 0 in every pixel, as of a two-colour microscope."""
    npz(**both("images", lambda x: np.stack([x, 255 - x, 0 * x], -1)))(place)
    return {"data": "mine.npz", "model": "mymodels:colour", "checkpoint": "colour.pt"}


def keras(test: str = "test") -> Make:
    names = {"train_images": "x_train", "train_labels": "y_train"}
    return npz(**names, test_images=f"x_{test}", test_labels=f"y_{test}")


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(10)[labels]


def words(labels: np.ndarray) -> np.ndarray:
    return np.array([f"digit {label}" for label in labels])


def table(
    part: str, image: str = "image", label: str = "label", labels: Any = None, struct: bool = True, **more: Any
) -> pa.Table:
    """As Hugging Face's datasets write it."""
    arrays = parts()
    images = [encoded(one) for one in arrays[f"{part}_images"]]
    cells = [{"bytes": content, "path": None} for content in images] if struct else images
    return pa.table({image: cells, label: arrays[f"{part}_labels"] if labels is None else labels, **more})


def files(**made: Callable[[], pa.Table]) -> Make:
    """Parquet files by name (`/` as `__`, `-` as `_of_`) in a folder."""

    def make(place: Path) -> dict[str, Any]:
        for name, build in made.items():
            path = place / "mine" / f"{name.replace('__', '/').replace('_', '-')}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(build(), path)
        return {"data": "mine"}

    return make


def shards(*numbers: int) -> Make:
    def make(place: Path) -> dict[str, Any]:
        (place / "mine" / "data").mkdir(parents=True)
        whole = table("train")
        for number in numbers:
            part = whole.slice(60 * number, 60)
            pq.write_table(part, place / "mine" / "data" / f"train-{number:05}-of-00002.parquet")
        pq.write_table(table("test"), place / "mine" / "data" / "test-00000-of-00001.parquet")
        return {"data": "mine"}

    return make


def single(place: Path) -> dict[str, Any]:
    pq.write_table(table("train"), place / "mine.parquet")
    return {"data": "mine.parquet"}


def named(make: Make, columns: dict[str, str]) -> Make:
    def made(place: Path) -> dict[str, Any]:
        make(place)
        return {"data": json.dumps({"name": "parquet", "root": "mine", "columns": columns})}

    return made


def hugging_face(place: Path) -> dict[str, Any]:
    """With names of the classes in the schema, and clean labels as words."""
    names = [f"digit {number}" for number in range(10)]
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    made = table("train").replace_schema_metadata({"huggingface": json.dumps(info)})
    (place / "mine").mkdir()
    pq.write_table(made, place / "mine" / "train.parquet")
    labels = parts()["train_labels"]
    lines = [f"{number},digit {(labels[number] - 1) % 10}" for number in CORRUPTED]
    (place / "ids.csv").write_text("\n".join(["id,clean_label", *lines]) + "\n")
    return {"data": "mine"}


def folder(change: Callable[[Path], Any] = lambda root: None, **options: Any) -> Make:
    """An image folder whose ids are files' names, changed."""

    def make(place: Path) -> dict[str, Any]:
        root = write_folder(place / "mine")
        (place / "ids.csv").write_text("file\n" + "".join(f"{number:04}.png\n" for number in CORRUPTED))
        change(root)
        return {"data": "mine", **options}

    return make


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return change


def image() -> np.ndarray:
    return digits()[0][0]


def deep(root: Path) -> None:
    (root / "train" / "digit0" / "deep.png").write_bytes(encoded(image().astype(np.uint16) * 257))


def palette(root: Path) -> None:
    for path in root.rglob("*.png"):
        picture = Image.open(path).convert("RGB").quantize()
        picture.save(path)


def rename(old: str, new: str) -> Callable[[Path], Any]:
    return lambda root: (root / old).rename(root / new)


def taken(kind: str, what: str, make: Make, *notes: str, **more: Any) -> Case:
    return Case(kind, what, make, None, notes, **more)


def refused(kind: str, what: str, make: Make, says: str) -> Case:
    return Case(kind, what, make, says)


def copy_to(source: str, name: str) -> Callable[[Path], Any]:
    import shutil

    return lambda root: shutil.copytree(root / source, root / name)


CASES = [
    taken(NPZ, "`train_images`, `train_labels`, `test_images`, `test_labels`", npz()),
    taken(NPZ, "no test part", npz(test_images=None, test_labels=None)),
    taken(NPZ, "Keras' `x_train`, `y_train`, `x_test`, `y_test`", keras()),
    taken(NPZ, "`X_train`, `trainY`", npz(train_images="X_train", train_labels="trainY")),
    taken(NPZ, "MedMNIST's `val_images` where there is no test part",
          npz(test_images="val_images", test_labels="val_labels"), "the part val is the held-out set"),
    taken(NPZ, "both `val_images` and `test_images`",
          npz(val_images=parts()["test_images"], val_labels=parts()["test_labels"]), "the part val is left aside"),
    taken(NPZ, "labels in a column (N, 1)", npz(**both("labels", lambda y: y[:, None]))),
    taken(NPZ, "float images in [0, 1]", npz(**both("images", lambda x: (x / 255).astype("float32"))),
          "train_images: float32 in [0, 1], as whole numbers from 0 to 255"),
    taken(NPZ, "float images in [0, 255]", npz(**both("images", lambda x: x.astype(float))),
          "train_images: float64 in [0, 255]"),
    taken(NPZ, "int64 images", npz(**both("images", lambda x: x.astype(int))), "train_images: int64 in [0, 255]"),
    taken(NPZ, "uint16 images", npz(**both("images", lambda x: x.astype("uint16") * 257)), "uint16, scaled to 8 bits"),
    taken(NPZ, "bool images", npz(**both("images", lambda x: x > 100)), "bool, as 0 and 255"),
    taken(NPZ, "colour images whose third channel is empty", empty_blue),
    refused(NPZ, "normalised images", npz(**both("images", lambda x: x / 128 - 1)),
            "train_images must have pixels in [0, 1] or [0, 255], before normalisation; its values go from -1 to 0.99"),
    refused(NPZ, "images with NaN", npz(train_images=lambda x: x * np.nan), "it is not all numbers"),
    refused(NPZ, "training images in [0, 1], test images in [0, 255]",
            npz(train_images=lambda x: x / 255, test_images=lambda x: x * 1.0), "where the training images end at 1"),
    taken(NPZ, "one-hot labels", npz(**both("labels", one_hot)), "train_labels: one-hot rows of 10"),
    refused(NPZ, "several classes an image", npz(train_labels=lambda y: np.ones((len(y), 10))),
            "or one-hot: a single 1 in each row; it is float64 of shape 120x10"),
    taken(NPZ, "labels as words", npz(**both("labels", words)),
          "train_labels: words, as classes in alphabetical order (0 digit 0, 1 digit 1"),
    taken(NPZ, "labels as bytes", npz(**both("labels", lambda y: words(y).astype("S"))), "words, as classes"),
    taken(NPZ, "labels as numbers in quotes", npz(**both("labels", lambda y: y.astype(str)))),
    taken(NPZ, "labels as 3.0", npz(**both("labels", lambda y: y.astype(float))), "whole numbers with a point"),
    refused(NPZ, "labels as 3.5", npz(train_labels=lambda y: y + 0.5), "without a fraction; it is float64"),
    refused(NPZ, "words in training, numbers in the test part", npz(train_labels=words),
            "test_labels are numbers, the training labels words"),
    refused(NPZ, "a word that only the test part has", npz(train_labels=words, test_labels=lambda y: words(y + 1)),
            "'digit 10' is a class without training images"),
    refused(NPZ, "negative labels", npz(train_labels=lambda y: y - 1), "has -1; it is int64 of shape 120"),
    refused(NPZ, "other keys", npz(train_images="a", train_labels="b"),
            "has no train_images; it has test_images (uint8, 40x12x12), test_labels (int64, 40), a (uint8, 120x12x12)"),
    refused(NPZ, "two arrays that may both be the labels", npz(y_train=parts()["train_labels"]),
            "train_labels and y_train may both be the train labels"),
    refused(NPZ, "images without labels in the test part", npz(test_labels=None), "has no test_labels; it has"),
    refused(NPZ, "labels that are Python objects", npz(train_labels=lambda y: y.astype(object)),
            "train_labels (object"),
    refused(NPZ, "fewer labels than images", npz(train_labels=lambda y: y[:-1]),
            "has 120 train images, but 119 labels"),
    taken(NPZ, "another array beside them", npz(readme=np.zeros(3)), "readme is left aside"),
    refused(NPZ, "a single array", lambda p: (np.save(p / "a.npy", image()), (p / "a.npy").rename(p / "mine.npz"),
                                             {"data": "mine.npz"})[2], "is a single array (.npy)"),

    taken(PARQUET, "`train.parquet`, `test.parquet`",
          files(train=lambda: table("train"), test=lambda: table("test"))),
    taken(PARQUET, "plain bytes instead of Hugging Face's struct", files(train=lambda: table("train", struct=False))),
    taken(PARQUET, "a single file", single),
    taken(PARQUET, "shards below `data/`", shards(0, 1)),
    refused(PARQUET, "a shard that is missing", shards(0), "train-00001-of-00002.parquet: is not there"),
    taken(PARQUET, "`validation` where there is no `test`",
          files(data__train=lambda: table("train"), data__validation=lambda: table("test")),
          "the part validation is the held-out set"),
    taken(PARQUET, "a folder `train/` of files",
          files(train__0000=lambda: table("train").slice(0, 70), train__0001=lambda: table("train").slice(70))),
    refused(PARQUET, "two configurations in one folder",
            files(a__train=lambda: table("train"), b__train=lambda: table("train")),
            "several folders have a part train"),
    taken(PARQUET, "columns `img`, `label` (CIFAR-10)", files(train=lambda: table("train", "img")),
          "column img holds the images"),
    taken(PARQUET, "columns `img`, `fine_label`", files(train=lambda: table("train", "img", "fine_label")),
          "column fine_label holds the labels"),
    refused(PARQUET, "columns `img`, `fine_label`, `coarse_label` (CIFAR-100)",
            files(train=lambda: table("train", "img", "fine_label", coarse_label=[0] * 120)),
            "has no column label; data.columns.label says which, of img"),
    taken(PARQUET, "the same, with `columns`",
          named(files(train=lambda: table("train", "img", "fine_label", coarse_label=[0] * 120)),
                {"image": "img", "label": "fine_label"})),
    refused(PARQUET, "`columns` that are not there", named(files(train=lambda: table("train")), {"label": "class"}),
            "no column class; it has image"),
    taken(PARQUET, "another column beside them", files(train=lambda: table("train", split=["train"] * 120))),
    taken(PARQUET, "labels as words", files(train=lambda: table("train", labels=words(parts()["train_labels"]))),
          "label: words, as classes in alphabetical order"),
    taken(PARQUET, "labels as a category",
          files(train=lambda: table("train", labels=pa.array(words(parts()["train_labels"])).dictionary_encode())),
          "label: words"),
    taken(PARQUET, "names of the classes from Hugging Face, and clean labels by them", hugging_face),
    refused(PARQUET, "null labels", files(train=lambda: table("train", labels=[None, *range(10)] + [None] * 109)),
            "row 0 has none (110 rows have none)"),
    refused(PARQUET, "labels of -1 (a test part without labels)",
            files(train=lambda: table("train"), test=lambda: table("test", labels=[-1] * 40)), "row 0 has -1"),
    refused(PARQUET, "images as lists of numbers",
            files(train=lambda: pa.table({"image": [[0, 1]] * 120, "label": [0] * 120})), "holds no encoded image"),
    refused(PARQUET, "no Parquet file", lambda p: ((p / "mine.parquet").write_text("no"), {"data": "mine.parquet"})[1],
            "mine.parquet: "),

    taken(FOLDER, "`train/CLASS/*.png`, `test/CLASS/*.png`", folder()),
    taken(FOLDER, "`._0000.png` beside the images", folder(put("train/digit3/._0000.png", b"\0\5\26\7")),
          "left out: train/digit3/._0000.png", "ids count as ImageFolder does"),
    taken(FOLDER, "`train/__MACOSX/` with such files", folder(put("train/__MACOSX/._a.png", b"\0\5\26\7")),
          "left out: train/__MACOSX/", "ids count as ImageFolder does"),
    taken(FOLDER, "an empty `train/__MACOSX/`", folder(lambda root: (root / "train/__MACOSX").mkdir()),
          "left out: train/__MACOSX/"),
    taken(FOLDER, "`train/.ipynb_checkpoints/`",
          folder(put("train/.ipynb_checkpoints/0000-checkpoint.png", encoded(image()))),
          "left out: train/.ipynb_checkpoints/", "ids count as ImageFolder does"),
    taken(FOLDER, "`Thumbs.db`, `.DS_Store`", folder(lambda root: [put(f"train/digit3/{name}", b"")(root)
                                                                  for name in ("Thumbs.db", ".DS_Store")]),
          "left out: train/digit3/.DS_Store and 1 more"),
    taken(FOLDER, "a file that is no image by its ending", folder(put("train/digit3/notes.txt", b"hello")),
          "left out: train/digit3/notes.txt (no image by its ending)"),
    taken(FOLDER, "an image outside any class", folder(put("train/stray.png", encoded(image()))),
          "left out: train/stray.png (no image of a class)"),
    taken(FOLDER, "an empty class folder in the test part only", folder(lambda root: (root / "test/none").mkdir()),
          "test/ has no image of class none"),
    refused(FOLDER, "an empty class folder in the training part", folder(lambda root: (root / "train/none").mkdir()),
            "mine/train/none: is a class without an image"),
    refused(FOLDER, "a class in the test part only", folder(put("test/other/a.png", encoded(image()))),
            "mine/test/other: is a class without training images"),
    taken(FOLDER, "`val/` where there is no `test/`", folder(rename("test", "val")),
          "the folder val/ is the held-out set"),
    taken(FOLDER, "`val/` beside `test/`", folder(copy_to("test", "val")), "the folder val/ is left aside"),
    refused(FOLDER, "no `train/`", folder(rename("train", "mine")), "mine/train: is not a folder; mine has mine, test"),
    taken(FOLDER, "a 16-bit PNG", folder(deep), "deep.png: 16 bits a channel, scaled to 8"),
    refused(FOLDER, "a TIFF of fractions",
            folder(put("train/digit3/a.tiff", encoded(image().astype("float32"), "TIFF"))),
            "a.tiff: has more than 16 bits a channel, or fractions"),
    refused(FOLDER, "a web page saved as .jpg", folder(put("train/digit3/a.jpg", b"<!DOCTYPE html><html>404</html>")),
            "a.jpg: cannot identify image file: it holds a web page"),
    refused(FOLDER, "an empty file", folder(put("train/digit3/a.jpg", b"")), "cannot identify image file: it is empty"),
    refused(FOLDER, "a pointer of Git LFS", folder(put("train/digit3/a.png", b"version https://git-lfs.github.com")),
            "a pointer of Git LFS"),
    refused(FOLDER, "half an image", folder(put("train/digit3/a.png", encoded(image())[:60])), "a.png: "),
    taken(FOLDER, "palettes of greys, a model of one channel", folder(palette),
          "palettes that hold grey alone, read as one channel"),
    taken(FOLDER, "the same, a model of three channels (`--rgb`)",
          folder(palette, model="mymodels:colour", checkpoint="colour.pt", options=["--rgb"]),
          "palettes that hold grey alone"),
    refused(FOLDER, "images of different sizes", folder(put("train/digit3/a.png", encoded(image()[:9]))),
            "images differ in size"),
]  # fmt: skip
