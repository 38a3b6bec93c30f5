"""Write docs/inputs.md: each case of tests/inputs, and what `rem-study heal` made of it: python docs/inputs_table.py"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("inputs.md")

HEAD = """# Inputs: shapes that are taken, and what is said of others

For [`rem-study heal`](heal.md) and for studies on own data alike. What is taken otherwise than it stands in a file, or
left aside, is said in a line (`note: ...`); what cannot be right, or may mean two things, is refused in a line that
names the file and the field, before anything is run.

- **Ids** say which training samples are known to be corrupted: numbers from 0 in the order of the data (rows; for an
  image folder as torchvision's `ImageFolder` counts, a stray file that is left out included), or names of files. A
  column `given_label`, where there is one, must be what the data have in every row: that tells ids that are meant for
  other data. `--id-column NAME` (in a study `id_column` of `given`) says which column holds them.
- **Checkpoints** are opened with `torch.load(weights_only=True)`; nothing in them is run. `--weights KEY` says which
  state dict is meant. The healed one keeps the names, and the key above them.
- **Parquet's** columns: `--data '{name: parquet, root: DIR, columns: {image: img, label: fine_label}}'`.
- Held out is the part `test`; where there is none, `val`, `valid`, `validation` or `dev`.

**Large sets.** Images of a folder, of Parquet files or of an NPZ archive are prepared once: decoded and resized by
all cores, with a line that says how far that is, into files that every process maps into its memory. The kernel holds
one copy of them for the launch, its workers, `heal`, `diagnose` and notebooks, and lets go of it where memory is
short. While images are prepared a few dozen are in memory at a time, of an NPZ array a few rows (all of one in
Fortran's order), of Parquet a row group, whatever the set's size.

- They lie in `data/KEY/` under `--root` (default: `runs`). KEY is a hash of what they are made from: the root's path;
  each file's path, size and time; name, columns, image size and numbers of samples. Whatever changes, another set is
  made; the old one may be removed while nothing runs. A study does not depend on where they lie: its data's
  fingerprint is of pixels and labels.
- A set appears whole or not at all. Whoever asks for one that another process prepares waits, and says so; on a share
  without locks both make it, and one stays.
- A launch compares every byte with the checksum; other commands do where a file's size or time is not what it was. A
  damaged set is said and made again.
- With a root on an object store, which cannot be mapped, each machine prepares the set for itself, in
  `~/.cache/rem-study/data` (`XDG_CACHE_HOME`). `REM_STUDY_PREPARED=DIR`, in the environment of all nodes, names another
  folder of each machine, also in place of a shared root that is slow.
- `rem-study check` prepares nothing: of a set that is not prepared it decodes some 128 to 255 images a part, and says
  what preparing will take, on how many cores and on the disk. An image that is broken is noticed there only if it is
  one of them; the launch tells of it before anything runs.
- On a GPU images lie in its memory unless they take more than `resources.data_share` of what a trial has of it (0.4;
  `heal`: 0.4 of the GPU). A larger set stays in the machine's memory; its batches are gathered there, pinned, and sent
  while those before are computed with. The results are the same. This has been tried with a stand-in for a second
  device whose memory is tiny, not on a GPU.

What it costs: [benchmarks.md](benchmarks.md).

The tables are written by `python docs/inputs_table.py` from the cases in `tests/inputs`, which are run; a test holds
them level.
"""


def page(rows: Iterable[tuple[str, str]]) -> str:
    """The page, of (kind, line) pairs in order."""
    kinds: dict[str, list[str]] = {}
    for kind, line in rows:
        kinds.setdefault(kind, []).append(line)
    tables = [f"## {kind}\n\n| input | what happens |\n|---|---|\n" + "\n".join(lines) for kind, lines in kinds.items()]
    return HEAD + "".join(f"\n{table}\n" for table in tables)


def main() -> None:
    """Run every case in a folder of its own, and write the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from inputs.case import heal, row
    from inputs.test_inputs import CASES

    rows, paths = [], list(sys.path)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            os.chdir(place)
            sys.modules.pop("mymodels", None)
            sys.path[:] = paths
            known = sys.modules.get("timm")
            if case.needs == "no timm":
                sys.modules["timm"] = None  # type: ignore[assignment]
            rows.append((case.kind, row(case, heal(case, place)[0], place)))
            if case.needs == "no timm":
                sys.modules.pop("timm")
                sys.modules |= {"timm": known} if known else {}
            os.chdir(ROOT)
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
