"""Files of ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from inputs.case import CORRUPTED, TRAIN, Case, clean_labels, parts, write_folder

KIND = "Ids"


def text(content: str, name: str = "my.csv", **options: Any) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        (place / name).write_text(content)
        return {"ids": name, **options}

    return make


def column(head: str, cells: Any) -> str:
    return "\n".join([head, *map(str, cells)]) + "\n"


def frame(**columns: Any) -> pd.DataFrame:
    """As cleanlab gives it: a row for each training sample, an index without a name."""
    labels = parts()["train_labels"]
    issues = np.isin(np.arange(TRAIN), CORRUPTED)
    usual = {
        "is_label_issue": issues,
        "label_quality": np.where(issues, 0.01, 0.9),
        "given_label": labels,
        "predicted_label": np.where(issues, clean_labels(), labels),
    }
    return pd.DataFrame({name: cells for name, cells in (usual | columns).items() if cells is not None})


def csv(made: Callable[[], pd.DataFrame], **options: Any) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        made().to_csv(place / "my.csv", **options)
        return {"ids": "my.csv"}

    return make


def parquet(made: Callable[[], pd.DataFrame]) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        made().to_parquet(place / "my.parquet")
        return {"ids": "my.parquet"}

    return make


def array(content: Any) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        np.save(place / "my.npy", np.asarray(content))
        return {"ids": "my.npy"}

    return make


def mask() -> np.ndarray:
    return np.isin(np.arange(TRAIN), CORRUPTED)


def issues(made: pd.DataFrame) -> pd.DataFrame:
    return made[made["is_label_issue"]]


def shuffled() -> pd.DataFrame:
    return frame().sample(frac=1, random_state=0)


def in_folder(cells: Callable[[list[str]], list[str]], head: str | None = "file") -> Callable[[Path], dict[str, Any]]:
    """An image folder, and a file that names its corrupted images."""

    def make(place: Path) -> dict[str, Any]:
        write_folder(place / "images")
        labels = parts()["train_labels"]
        names = [f"digit{labels[number]}/{number:04}.png" for number in CORRUPTED]
        lines = [*([head] if head else []), *cells(names)]
        (place / "my.csv").write_text("\n".join(lines) + "\n")
        return {"ids": "my.csv", "data": "images"}

    return make


def folder_places() -> tuple[int, ...]:
    """Where an image folder has the corrupted images."""
    labels = parts()["train_labels"]
    order = sorted(range(TRAIN), key=lambda number: (f"digit{labels[number]}", number))
    return tuple(order.index(number) for number in CORRUPTED)


def torch_file(content: torch.Tensor) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        torch.save(content, place / "my.pt")
        return {"ids": "my.pt"}

    return make


_PLAIN = column("id", CORRUPTED)
_COUNTED = "8 of 120 rows (is_label_issue) are corrupted"


def taken(what: str, make: Any, *notes: str, ids: tuple[int, ...] = CORRUPTED) -> Case:
    return Case(KIND, what, make, None, notes, ids)


def refused(what: str, make: Any, says: str) -> Case:
    return Case(KIND, what, make, says)


CASES = [
    taken("a CSV file with a column `id`", text(_PLAIN)),
    taken("ids with a point (`15.0`: pandas after a merge)", text(column("id", map(float, CORRUPTED)))),
    taken("ids as 1.0e+01 (`np.savetxt`)", lambda p: (np.savetxt(p / "my.csv", CORRUPTED), {"ids": "my.csv"})[1]),
    taken("`;` between columns", text(column("id;score", (f"{i};0.5" for i in CORRUPTED)))),
    taken("tabs between columns", text(column("id\tscore", (f"{i}\t0.5" for i in CORRUPTED)), "my.tsv")),
    taken("Excel's `sep=;` in the first line", text("sep=;\n" + column("id;score", (f"{i};0.5" for i in CORRUPTED)))),
    taken("Excel's text in UTF-16", lambda p: ((p / "my.csv").write_text(_PLAIN, "utf-16"), {"ids": "my.csv"})[1]),
    taken("a list without a header", text(column("", CORRUPTED))),
    taken("all ids on one line", text(",".join(map(str, CORRUPTED)))),
    taken("`# id` as header (`np.savetxt(header=...)`)", text(column("# id", CORRUPTED))),
    taken("`ID` in capitals", text(column("ID", CORRUPTED))),
    refused("another column name", text(column("sample,score", (f"{i},0.5" for i in CORRUPTED))),
            "has no column id; its columns are sample, score: id_column (--id-column) says which"),
    taken("another column name, and `--id-column`",
          text(column("sample,score", (f"{i},0.5" for i in CORRUPTED)), **{"id-column": "sample"})),
    refused("`--id-column` that is not there", text(_PLAIN, **{"id-column": "nr"}), "no column nr; its columns are id"),
    refused("`--id-column` for a list without names", text(column("", CORRUPTED), **{"id-column": "nr"}),
            "it is a list without column names"),
    taken("`.npy` of ids", array(CORRUPTED)),
    taken("`.npy` of ids as fractions", array(np.array(CORRUPTED, float))),
    taken("`.npy` mask over the training set", array(mask()), "8 of 120 rows of the mask"),
    taken("`.npy` mask of 0 and 1", array(mask().astype(int)), "8 of 120 rows of the mask"),
    taken("a mask as a list of True and False", text(column("", mask())), "8 of 120 rows of the mask"),
    taken("a mask of 0 and 1 without a header", text(column("", mask().astype(int))), "8 of 120 rows of the mask"),
    refused("a mask of another length", array(mask()[:100]), "is a mask of 100 rows, but there are 120"),
    refused("`.npy` of scores", array(np.linspace(0, 1, TRAIN)), "id must be a whole number from 0"),
    refused("`.npy` of Python objects", lambda p: (np.save(p / "my.npy", np.array([{}] * 5)), {"ids": "my.npy"})[1],
            "allow_pickle"),
    refused("`.npy` of a matrix", array(np.zeros((4, 5), int)), "must be one row of ids"),
    taken("a tensor (`torch.save`)", torch_file(torch.tensor(CORRUPTED))),
    taken("a mask as a tensor", torch_file(torch.from_numpy(mask())), "8 of 120 rows of the mask"),
    taken("JSON: a list", text(json.dumps(CORRUPTED), "my.json")),
    taken("JSON: records", text(json.dumps([{"id": i, "why": "blurred"} for i in CORRUPTED]), "my.json")),
    taken("JSON: pandas' own", lambda p: (issues(frame()).to_json(p / "my.json"), {"ids": "my.json"})[1],
          "8 of 8 rows (is_label_issue)"),
    taken("JSON lines", text("".join(json.dumps({"id": i}) + "\n" for i in CORRUPTED), "my.jsonl")),
    refused("a pickle", text("", "my.pkl"), ".pkl files are not read; save the ids as CSV"),
    refused("a spreadsheet", text("", "my.xlsx"), ".xlsx files are not read"),
    taken("cleanlab's frame, all samples: only the issues count", csv(frame), _COUNTED),
    taken("cleanlab's frame as Parquet", parquet(frame), _COUNTED),
    taken("cleanlab's frame without its index", csv(frame, index=False), _COUNTED),
    taken("cleanlab's frame, issues alone", csv(lambda: issues(frame())), "8 of 8 rows"),
    taken("cleanlab's frame, issues alone, as Parquet", parquet(lambda: issues(frame())), "8 of 8 rows"),
    taken("cleanlab's frame in another order, with its index", csv(shuffled), _COUNTED),
    refused("cleanlab's frame in another order, without its index", csv(shuffled, index=False),
            "rows disagree): are these ids those of these data, from 0?"),
    refused("cleanlab's frame, issues alone, numbered anew", csv(lambda: issues(frame()).reset_index(drop=True)),
            "were rows taken out and numbered anew?"),
    refused("cleanlab's frame, issues alone, without its index and labels",
            csv(lambda: issues(frame(given_label=None)), index=False), "has no column id"),
    refused("cleanlab's frame with ids from 1", csv(lambda: frame().set_index(np.arange(1, TRAIN + 1))),
            "120 is too large; there are 120 training samples, counted from 0"),
    refused("issues with ids from 1", csv(lambda: issues(frame().set_index(np.arange(1, TRAIN + 1)))),
            "all would agree if ids were counted from 1: subtract 1"),
    refused("`given_label` from 1", csv(lambda: frame(given_label=parts()["train_labels"] + 1)),
            "all would agree if classes were counted from 1"),
    refused("cleanlab's frame of another set", csv(lambda: frame(given_label=(parts()["train_labels"] * 3 + 1) % 10)),
            "given_label is"),
    taken("cleanlab's Datalab, all kinds of issue",
          csv(lambda: frame(is_outlier_issue=~mask(), outlier_score=0.5, is_label_issue=mask())), _COUNTED),
    taken("`id` and 0 or 1 for each (`is_corrupted`)",
          text(column("id,is_corrupted", (f"{i},{int(i in CORRUPTED)}" for i in range(TRAIN)))),
          "8 of 120 rows (is_corrupted)"),
    refused("`id` and a column of truth values that nobody knows",
            text(column("id,reviewed", (f"{i},{i < 50}" for i in CORRUPTED))), "does it say which are corrupted?"),
    refused("an issue that is neither true nor false",
            text(column("id,is_label_issue", (f"{i},perhaps" for i in CORRUPTED))), "must be true or false"),
    refused("no issue at all", csv(lambda: frame(is_label_issue=np.zeros(TRAIN, bool))), "0 ids are too few"),
    refused("more than half of the training set", text(column("id", range(61))), "61 of 120 training samples, more"),
    refused("an id twice, once as `15.0`", text(column("id", [1, 2, 3, 15, "15.0"])), "id 15.0 stands twice"),
    refused("an id that is too large", text(column("id", [1, 2, 3, 120])), "id 120 is too large"),
    refused("a negative id", text(column("id", [1, 2, 3, -4])), "must be a whole number from 0, not '-4'"),
    refused("an empty cell", text("id,score\n1,0\n2,0\n,0\n4,0\n5,0\n"), "must be a whole number from 0, not ''"),
    refused("a row with more cells than the header", text("id\n1,2\n3\n4\n5\n"), "row 1: 2 cells, but 1 column"),
    refused("a column twice", text("id,id\n1,2\n3,4\n5,6\n7,8\n"), "column id stands twice"),
    refused("`clean_label` that is the given one",
            text(column("id,clean_label", (f"{i},{parts()['train_labels'][i]}" for i in CORRUPTED))),
            "clean_label is the label that the data already have"),
    refused("file names, though the data have none", text(column("file", [f"{i}.png" for i in CORRUPTED])),
            "must be a whole number from 0"),
    taken("image folder: files below `train/`", in_folder(lambda names: names), ids=folder_places()),
    taken("image folder: files in a column `id`", in_folder(lambda names: names, "id"), ids=folder_places()),
    taken("image folder: a list of files without a header", in_folder(lambda names: names, None), ids=folder_places()),
    taken("image folder: paths from elsewhere, through `train/`",
          in_folder(lambda names: [f"/data/mine/train/{name}" for name in names]), ids=folder_places()),
    taken("image folder: Windows' paths",
          in_folder(lambda names: ["C:\\mine\\train\\" + name.replace("/", "\\") for name in names]),
          ids=folder_places()),
    taken("image folder: names alone", in_folder(lambda names: [Path(name).name for name in names]),
          ids=folder_places()),
    refused("image folder: a file of `test/`", in_folder(lambda names: [*names, "test/digit0/0130.png"]),
            "is no training image"),
    refused("image folder: a file that is not there", in_folder(lambda names: [*names, "digit0/no.png"]),
            "digit0/no.png is no training image"),
    taken("image folder: classes as words in `clean_label`",
          in_folder(lambda names: [f"{n},digit{(int(n[5]) - 1) % 10}" for n in names], "file,clean_label"),
          ids=folder_places()),
    refused("image folder: classes of another folder in `given_label`",
            in_folder(lambda names: [f"{n},digit{(int(n[5]) + 1) % 10}" for n in names], "file,given_label"),
            "8 of 8 rows disagree"),
]  # fmt: skip
