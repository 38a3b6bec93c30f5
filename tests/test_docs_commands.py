"""README and docs as a new user would try them: every command and every piece of code in them is run.

What cannot run here stands in NOT_HERE with its reason; a command that is neither run nor listed fails a test.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import yaml
from doubles.corrupted import corrupted_digits
from doubles.docs import PAGES, ROOT, script
from torchvision.transforms.functional import to_pil_image

from rem_study.cli import main as cli

PROGRAMS = (
    "rem-study ",
    "make ",
    "python ",
    "pip ",
    "ray ",
    "kubectl ",
    "ssh ",
    "optuna-dashboard ",
    "mlflow ",
    ".venv/bin/",
)

NOT_HERE = {
    r"^make (quickstart|test|lint|bench|docs)": "makes an environment of 7 GB, or runs this very test; .ci/run does",
    r"^rem-study submit ": "needs a Ray head with its job server: tests/study/test_submit.py starts one",
    r"^ray (up|down|dashboard) ": "starts machines on AWS; cluster.yaml is validated by tests/test_cluster.py",
    r"^ray job ": "needs a job that was submitted: tests/study/test_submit.py",
    r"^pip (download|install|check)": "about the environment, not about this package",
    r"s3://|gs://": "needs a bucket: tests/storage/test_object_store.py has one",
    r"package\.module:factory": "a form, not a command: tests/heal/test_heal.py has real factories",
    r"^rem-study show shrink": "the recipe's own method: test_the_recipes_for_extending_work",
    r"^kubectl ": "needs a Kubernetes cluster",
    r"^ssh ": "needs the head of a cluster",
    r"^rem-study ui ": "serves until it is stopped: tests/report/test_browser.py opens it",
    r"^rem-study watch ": "serves until the study ends: tests/study/test_watch.py opens it",
    r"^optuna-dashboard ": "serves until it is stopped: tests/search/test_optuna_studies.py opens it",
    r"^mlflow ": "serves until it is stopped",
    r"^python \.\./shared/data/prepare\.py": "lays out data sets that are not in the repository",
    r"^rem-study launch .*data\.root=": "needs Fashion-MNIST or CIFAR-10, and hours",
    r"^python docs/tables\.py runs/fashion": "needs that study",
    r"^python docs/gpu_tables\.py": "needs a file of gpu_cells.py: tests/benchmarks/test_gpu_cells.py makes some",
    r"^python docs/inputs_table\.py": "needs the tests' cases: tests/inputs/test_inputs.py compares the page with them",
    r"^python docs/(site|make_notebook)\.py": "needs the extra `docs`: tests/test_docs_site.py",
    r"^python benchmarks/": "minutes to hours on a quiet machine",
    r"^(\.venv/bin/)?(python -m )?pytest": "would run this very test",
    r"^REM_STUDY_": "sets up what runs elsewhere",
}
MINUTES = {
    r"^rem-study launch (studies/(?!smoke)|study\.yaml)": "minutes to hours: `rem-study check` in place of `launch`",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        if page.name == "reference.md":  # written from the code
            continue
        text = page.read_text(encoding="utf-8")
        for language, content in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            yield Block(page.name, language, content)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of a block that begins with a program; continued lines joined, comments cut."""
    found = []
    for block in blocks():
        if block.language not in ("", "bash", "sh", "console", "text"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip()
            if line.startswith(PROGRAMS) and not _synopsis(line):
                found.append((block.page, re.sub(r"\s+", " ", line)))
    return list(dict.fromkeys([*found, *_inline()]))


def _inline() -> Iterator[tuple[str, str]]:
    """Whole commands within a sentence; those that show a form (`show METHOD`, `--set ...`) are no commands."""
    for page in PAGES:
        if page.name == "reference.md":
            continue
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`]+)`", text):
            command = re.sub(r"\s+", " ", span)
            whole = command.startswith(PROGRAMS) and len(command.split()) > (1 + command.startswith("rem-study "))
            if whole and not re.search(r"\b[A-Z]{2,}\b|\.\.\.|<", command):
                yield page.name, command


def synopses() -> list[str]:
    """Lines that show what a command takes: capitals and brackets instead of values."""
    text = "\n".join(block.text for block in blocks() if block.language == "")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("rem-study ") and _synopsis(line)]


def _synopsis(line: str) -> bool:
    words, _, described = line.strip().partition("   ")
    if re.match(r"[A-Za-z]", described.strip()):  # no comment, and no option on a line of its own
        return True
    return bool(re.search(r"\b(STUDY\.yaml|DIR|METHOD|CHECKPOINT)\b", words)) and "=DIR" not in words


def reason(command: str, table: dict[str, str]) -> str | None:
    return next((why for pattern, why in table.items() if re.search(pattern, command)), None)


def test_there_is_something_to_run() -> None:
    assert len(commands()) > 10 and len(synopses()) >= 9


@pytest.mark.parametrize("line", synopses())
def test_what_the_synopsis_shows_is_what_the_command_takes(line: str) -> None:
    name, *words = re.split(r"   ", line)[0].removeprefix("rem-study ").split()
    for one in name.split("|"):
        command = cli.commands[one]
        options = {option for parameter in command.params for option in parameter.opts}
        named = {word for word in re.findall(r"--?[a-z][a-z-]*", " ".join(words)) if not word[1:].isdigit()}
        assert named <= options, line
        formats = re.search(r"--format ([a-z|]+)", line)
        if formats:
            choice = next(parameter for parameter in command.params if "--format" in parameter.opts)
            assert isinstance(choice.type, click.Choice)
            assert formats.group(1).split("|") == list(choice.type.choices)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the smoke study has run as README says, standing in for the quickstart."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("studies", "search_spaces", "docs"):
        shutil.copytree(ROOT / name, place / name)
    run("rem-study launch studies/smoke.yaml", place)
    for name in ("quickstart", "digits-all-methods"):
        shutil.copytree(place / "runs" / "smoke", place / "runs" / name)
    for target in ("runs/quickstart/best.yaml", "best.yaml"):  # of a study whose configurations all drop the channels
        best = (ROOT / "docs" / "results" / "digits-best.yaml").read_text(encoding="utf-8")
        (place / target).write_text(re.sub(r"erase_mode: \w+", "erase_mode: drop", best), encoding="utf-8")
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (96, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(96) % 10
    parts = {"train_images": images[:64], "train_labels": labels[:64]}
    np.savez(place / "data.npz", **parts, test_images=images[64:], test_labels=labels[64:])
    for number, image in enumerate(images):
        folder = place / "photos" / ("train" if number < 64 else "test") / f"class{labels[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(torch.from_numpy(image)).save(folder / f"{number}.png")
    for name in ("known.csv", "ids.csv"):
        (place / name).write_text("id\n" + "\n".join(map(str, range(0, 20, 2))) + "\n")
    return place


def run(command: str, place: Path) -> str:
    words = shlex.split(command.replace(".venv/bin/", ""))
    written = [place / words[words.index("-o") + 1]] if "-o" in words else []
    for earlier in (*written, *place.glob("model.healed.*")):  # of another page's command: nothing is written over
        earlier.unlink(missing_ok=True)
    program = {"rem-study": [sys.executable, "-m", "rem_study.cli"], "python": [sys.executable]}[words[0]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run([*program, *words[1:]], cwd=place, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_runs_or_is_listed(page: str, command: str, workspace: Path) -> None:
    if why := reason(command, NOT_HERE):
        pytest.skip(why)
    if reason(command, MINUTES):
        command = command.replace("rem-study launch", "rem-study check")
    if command.startswith("rem-study heal "):
        save_model(command, workspace)
    if re.search(r"rem-study launch (studies/)?smoke", command):  # which another page has extended
        shutil.rmtree(workspace / "runs" / "smoke")
    if command.startswith("rem-study diagnose "):  # of a network that has learnt something
        workspace = workspace / "learnt"
        workspace.mkdir()
        case = corrupted_digits("poison")
        case.write(workspace, case.wrong[:14])
    run(command, workspace)


def save_model(command: str, place: Path) -> None:
    """What the command names as the user's model, newly initialised."""
    model = re.search(r"--model ('[^']*'|\S+)", command)
    assert model is not None
    torch.save(fresh_network(model.group(1).strip("'"), 32).state_dict(), place / "model.pt")


def fresh_network(text: str, image_size: int) -> torch.nn.Module:
    """What `--model` names, for colour images and ten classes."""
    from pydantic import TypeAdapter

    from rem_study.models.build import build_model
    from rem_study.models.own_model import unwrapped
    from rem_study.spec.model import ModelSpec

    document = yaml.safe_load(text) if text.startswith("{") else {"name": text}
    spec: Any = TypeAdapter(ModelSpec).validate_python(document)
    return unwrapped(build_model(spec, (3, image_size, image_size), 10, 0))


@pytest.mark.slow
def test_the_gallery_runs_and_writes_its_pictures(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    pictures = workspace / "pictures"
    script("gallery").main(workspace / "runs" / "quickstart", pictures)
    shown = re.findall(r"\(gallery/(.*?)\)", (ROOT / "docs" / "gallery.md").read_text())
    assert sorted(path.name for path in pictures.iterdir()) == sorted(shown)
    assert all((ROOT / "docs" / "gallery" / name).is_file() for name in shown)


def python_blocks() -> list[Block]:
    own = [block for block in blocks() if block.language == "python" and not block.text.startswith("# FILE")]
    return [block for block in own if block.page != "gallery.md"]


@pytest.mark.slow
@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: f"{block.page}: {block.text.splitlines()[0]}")
def test_every_piece_of_python_runs(block: Block, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rem_study
    from rem_study.data.dataset import load_dataset
    from rem_study.heal.healing import heal
    from rem_study.spec.data import OwnDataSpec

    for number, name in enumerate(("cat", "dog")):
        (workspace / "DIR" / "train" / name).mkdir(parents=True, exist_ok=True)
        to_pil_image(torch.full((3, 8, 8), 0.1 + number / 2)).save(workspace / "DIR" / "train" / name / "0.png")
    if block.page == "heal.md":  # a longer data set: its ids reach 1370
        images = np.random.default_rng(0).integers(0, 255, (1400, 3, 12, 12), dtype=np.uint8)
        np.savez(workspace / "data.npz", train_images=images, train_labels=np.arange(1400) % 10)
    monkeypatch.chdir(workspace)
    names: dict[str, Any] = {
        "rem_study": rem_study,
        "torch": torch,
        "heal": heal,
        "network": fresh_network("resnet9", 12),
        "dataset": load_dataset(OwnDataSpec(name="npz", root="data.npz")),
        "forget_ids": [1, 2, 3, 4],
    }
    exec(compile(block.text, block.page, "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "yaml" and "FILE" not in b.text])
def test_every_study_file_shown_is_valid(block: Block, tmp_path: Path) -> None:
    from rem_study.spec.resolve import load_study

    document = yaml.safe_load(block.text)
    for method in document["methods"].values():
        if "space" in method:
            shutil.copyfile(ROOT / "search_spaces" / "finetune.yaml", tmp_path / method["space"])
    (tmp_path / "study.yaml").write_text(block.text)
    assert load_study(tmp_path / "study.yaml").spec.name == document["name"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, changed as docs/extend.md says: its files written, its differences applied."""
    place = tmp_path_factory.mktemp("extended")
    for name in ("rem_study", "search_spaces"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks():
        if block.page != "extend.md":
            continue
        if block.language == "diff":
            done = subprocess.run(["git", "apply", "-"], input=block.text, cwd=place, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr
        else:
            first, _, content = block.text.partition("\n")
            (place / first.removeprefix("# FILE ")).write_text(content, encoding="utf-8")
    return place


STRANGE = {
    "name": "strange",
    "data": {"train_samples": 240, "test_samples": 120, "image_size": 12},
    "model": {"width": 0.0625},
    "original": {"epochs": 2},
    "corruptions": [{"name": "stripe", "samples": 12}],
    "discovery_rates": [0.5],
    "methods": ["shrink"],
    "budget": {"trials": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
}


@pytest.mark.slow
def test_the_recipes_for_extending_work(extended: Path) -> None:
    (extended / "strange.yaml").write_text(yaml.safe_dump(STRANGE))
    code = (
        "import rem_study; table = rem_study.run_cell('strange.yaml', 'stripe@0.5', originals='originals')\n"
        "print(table[['method', 'state']].drop_duplicates().to_dict('records'), len(table))"
    )
    assert _python(code, extended) == "[{'method': 'shrink', 'state': 'complete'}] 2"


@pytest.mark.slow
def test_the_recipe_for_a_data_set_works(extended: Path) -> None:
    raw = extended / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 300), ("t10k", 100)):
        images = np.random.default_rng(0).integers(0, 255, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = struct.pack(">IIII", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    code = (
        "from rem_study.data.dataset import load_dataset; from rem_study.spec.data import DataSpec\n"
        "data = load_dataset(DataSpec(name='mnist', root='mnist'))\n"
        "print(tuple(data.train_images.shape), len(data.test_labels), data.num_classes)"
    )
    assert _python(code, extended) == "(300, 1, 28, 28) 100 10"


def _python(code: str, place: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.strip()
