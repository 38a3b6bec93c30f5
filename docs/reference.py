"""Write docs/reference.md from the code: python docs/reference.py

The study file from the pydantic models, the commands from click, the columns from the Parquet schemas. What a column
means stands here; a test sees to it that each has a line, and that the committed page is what this script writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

import rem_study
from rem_study.cli import main as cli
from rem_study.results.columns import CELLS_SCHEMA, TRIALS_SCHEMA
from rem_study.results.winners import FEWEST_LED, FEWEST_SAMPLES, judge
from rem_study.spec.study import StudySpec

PAGE = Path(__file__).with_name("reference.md")

COLUMNS = {
    "study": "its name",
    "dataset": "`data.name`",
    "model": "`model.name`",
    "corruption": "its name",
    "regularity": "measured: how often the original gives the corrupted label to fresh samples put through the same "
    "corruption; null where there can be none",
    "regularity_rank": "what the corruption is expected to have: low, medium, medium_high, high",
    "discovery_rate": "share of the corrupted samples that is known when unlearning",
    "cell": "`CORRUPTION@RATE`",
    "method": "its name",
    "trial": "number within (cell, method, phase), from 0; in the search 0 is the default configuration, and a "
    "confirmed trial keeps its number",
    "phase": "`search`, `race` (the search's best against the default on fresh replicates), `confirm` (what is "
    "exported and the default on further ones), `transfer` (other cells' exports on the same)",
    "proposed_by": "where the configuration comes from: `default`, the sampler's name, a neighbouring cell, `warm "
    "start: CELL`; in `race` `challenger` or `default`; in `confirm` `selected` or `default`; in `transfer` the "
    "cell that exports it",
    "replicate": "number of the set of seeds, from 0; those of `race` follow those of the search, "
    "those of `confirm` and `transfer` these",
    "state": "`complete`, `pruned` (given up early) or `failed` (`error` says why)",
    "config": "the whole configuration, JSON with sorted keys",
    "carry_over": "of the original: how far flushing one half of all corrupted samples moves the other, 1 as far as "
    "the flushed one, 0 like the retained ones; what `diagnose` measures of a case; null where that told nothing, and "
    "of originals of an earlier version",
    "memorised": "share of the corrupted training samples to which the original gives their wrong label",
    "healed": "share of the corrupted training samples that get their clean label, report split",
    "healed_discovered": "the same among the known ones",
    "healed_undiscovered": "the same among the others; null at discovery rate 1",
    "utility": "accuracy on clean test data, report split; with interclass confusion on the other classes only",
    "test_accuracy": "accuracy on all clean test data of the report split",
    "utility_x_healed": "`utility` × `healed`",
    "attack_success": "share of the clean test images of the report split, true class not the target, that get the "
    "target once the trigger is on them; null where the corruption has no trigger (`given` included)",
    "found_average_precision": "average precision with which the healed network's doubt of given labels finds "
    "undiscovered corrupted samples among the retained ones, report split; null where nothing is undiscovered",
    "found_recall": "share of the undiscovered ones in the longest list of the most doubted whose precision is at "
    "least 0.9",
    "healed_samples": "corrupted samples behind `healed`; null without clean labels",
    "healed_discovered_samples": "those of them behind `healed_discovered`; the rest are behind `healed_undiscovered`",
    "utility_samples": "test images behind `utility`",
    "attack_samples": "test images behind `attack_success`",
    "forget_accuracy": "accuracy on the forget set against its wrong labels",
    "retain_accuracy": "accuracy on the retain set against its given labels",
    "score_oracle": "utility × healed on the selection split",
    "score_deployable": "`retain_accuracy` × (1 − max(`forget_accuracy`, chance)): needs no clean label",
    "score": "the one of the two that the study searches by; 0 beyond `max_utility_loss`",
    "score_healed": "the factor of `score` that says how much was healed, for a search with two objectives",
    "score_utility": "its other factor",
    "epochs": "that the method took",
    "sample_passes": "samples taken forward and backward through a network, originals not counted",
    "seconds": "wall time of unlearning and evaluation",
    "compile_seconds": "of these, what PyTorch's compiler took in this worker (`compile`); null where it is none",
    "curves": "JSON, by name one value an epoch (REM: accuracy on the wrong labels along each path)",
    "mlflow_run_id": "of the trial's run",
    "error": "why it failed, one line",
}

CELL_COLUMNS = {
    "trial": "number of the selected search trial",
    "config": "the selected configuration, JSON",
    "search_score": "its mean `score` in the search, by which it was selected",
    "chosen": "how `config` was: `default` (nothing was ahead of it beyond its noise), `race` (it was), or `search` "
    "(the search's best, where no race was asked for)",
    "race_replicates": "fresh replicates that the race went over; 0: nothing had been ahead of the default, or no race",
    "shrinkage": "`search_score` minus its mean `score` on fresh replicates: how much selecting flattered it",
    "healed_samples": "corrupted samples behind `healed`, all replicates together; null where one did not record it",
    "healed_discovered_samples": "those of them behind `healed_discovered`",
    "utility_samples": "test images behind `utility`, counted once a replicate",
    "attack_samples": "test images behind `attack_success`, counted once a replicate",
    "standing": "`won`: this method leads every other one in the cell beyond noise (see below); `level`: nobody has "
    "won, and nobody leads it beyond noise; `behind`: the leader leads it beyond noise; `alone`: no other has a result",
    "rival": "whom it is compared with: the leader; for the leader itself, who comes closest to it",
    "lead": "its utility × healed minus the rival's, on the replicates that both have run; negative behind the leader",
    "lead_low": "95 % interval of the lead, paired by replicate; with one, two standard errors to either side",
    "lead_high": "its other end",
    "lead_replicates": "how many both have run",
    "lead_samples": "how many samples the lead is worth: corrupted ones healed and test images right in its favour",
    "utility_x_healed_low": "95 % interval over fresh replicates; null without `confirm`",
    "utility_x_healed_high": "its other end",
    "default_utility_x_healed": "of the default configuration, on the same replicates",
    "gain": "`utility_x_healed` minus that of the default",
    "gain_low": "95 % interval, paired by replicate; null without `confirm`",
    "gain_high": "its other end",
    "replicates": "that the scores are means over: fresh ones where it was confirmed, else those of the search",
    "trials": "search trials that were run",
    "pruned": "of these, given up early",
    "failed": "of these, failed",
    "sample_passes": "of every row, whatever its phase",
    "seconds": "of every row, whatever its phase",
    "health": "names of the rules that the selection breaks (`rem_study/results/health.py`); empty: sound",
}

BEST = """
`format: 1`. A reader refuses any other number; fields may be added under the same one, none is renamed or removed.

| field | |
|---|---|
| `study`, `objective` | the study's name, what it searched by |
| `universal` | by method, the one configuration for the whole grid: `config`, `utility_x_healed`, `worst_regret`: \
how much worse it is than the cell's own choice, where it is worst |
| `cells` | a list; each has `corruption`, `discovery_rate`, `regularity` (measured, or null) and `methods` |
| `cells[].methods` | by method: `config`, `utility_x_healed`, `chosen` (`default`, `race` or `search`), \
`default_utility_x_healed`, `gain` over it, `replicates` and `samples` (`healed`, `utility`) \
that all this stands on, `trial`, `mlflow_run_id` |

`utility_x_healed` and `gain` have `mean`, `low` and `high`; the last two are null where nothing was confirmed on fresh
replicates.
"""


def page() -> str:
    """The whole reference, as Markdown."""
    parts = [
        "# Reference",
        "Written by `python docs/reference.py` from the code; change it there.",
        "## The study file",
        *_study_file(),
        "## Commands",
        *_commands(),
        "## trials.parquet: a row a (trial, replicate)",
        _columns(TRIALS_SCHEMA, COLUMNS),
        "## cells.parquet: a row a (cell, method)",
        "Scores are means over `replicates` on the report split.",
        _columns(CELLS_SCHEMA, COLUMNS | CELL_COLUMNS),
        "### Who wins a cell",
        inspect.cleandoc(judge.__doc__ or ""),
        f"FEWEST_LED is {FEWEST_LED}, FEWEST_SAMPLES {FEWEST_SAMPLES}.",
        "## best.yaml",
        BEST.strip(),
        "## Python",
        *_python(),
    ]
    return "\n\n".join(parts) + "\n"


def _study_file() -> Iterator[str]:
    """A table for the file itself and one for each section, in the order in which they are first named."""
    schema = StudySpec.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    yield _fields(schema)
    seen: list[str] = []
    waiting = [schema]
    while waiting:
        for name in _references(waiting.pop(0)):
            if name not in seen:
                seen.append(name)
                waiting.append(definitions[name])
    for name in seen:
        told = inspect.cleandoc(definitions[name].get("description", ""))
        yield f"### {name}"
        yield _one_line(told)
        yield _fields(definitions[name])


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key not in ("$defs", "discriminator"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    lines = ["| field | | default | |", "|---|---|---|---|"]
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else _default(field.get("default"), field)
        told = _one_line(field.get("description", "")).replace("|", "\\|")
        lines.append(f"| `{name}` | {_kind(field)} | {default} | {told} |")
    return "\n".join(lines)


def _default(value: Any, field: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return "" if not value or "$ref" in field or "oneOf" in field else f"`{value}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type in words: `whole number, above 0`; sections by their link."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[either] if one.get("type") != "null"))
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {"oneOf": schema.get("prefixItems", [{}])}
        return f"list of {_kind(items)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"by name {_kind(values)}" if isinstance(values, dict) else "mapping"
    if "pattern" in schema:
        return f"text like `{schema['pattern']}`"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    bounds = (("exclusiveMinimum", "above"), ("minimum", "from"), ("exclusiveMaximum", "below"), ("maximum", "to"))
    limits = [f"{word} {schema[key]:g}" for key, word in bounds if key in schema]
    return ", ".join([words.get(str(kind), "any value"), *limits])


def _commands() -> Iterator[str]:
    for name, command in sorted(cli.commands.items()):
        context = click.Context(
            command,
            info_name=f"rem-study {name}",
            terminal_width=100,
            max_content_width=100,
            help_option_names=["-h", "--help"],  # as within the group; click keeps what it is asked for first
        )
        yield f"### rem-study {name}"
        yield f"```text\n{command.get_help(context)}\n```"


def _columns(schema: pa.Schema, meanings: Mapping[str, str]) -> str:
    words = {"string": "text", "int64": "whole number", "double": "number"}
    lines = [f"| `{field.name}` | {words[str(field.type)]} | {meanings[field.name]} |" for field in schema]
    return "\n".join(["| column | | |", "|---|---|---|", *lines])


def _python() -> Iterator[str]:
    for name in rem_study.__all__:
        thing = getattr(rem_study, name)
        yield f"### rem_study.{name}"
        signature = str(inspect.signature(thing)).replace("'", "")
        yield f"```text\n{name}{signature}\n\n{inspect.cleandoc(thing.__doc__)}\n```"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
