"""Study files and search spaces: what is read, and every mistake as one line that names file and field."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from rem_study.errors import InputError
from rem_study.spec.resolve import load_study
from rem_study.spec.space import load_space
from rem_study.spec.study import Study
from rem_study.spec.yaml_file import load_yaml

SECTIONS = {"corruptions": "[random_label]", "discovery_rates": "[0.5]", "methods": "[retrain]"}


def write(folder: Path, **sections: str) -> Path:
    """A study file of the smallest study, with sections (YAML text) added or replaced."""
    path = folder / "mine.yaml"
    path.write_text("".join(f"{key}: {text}\n" for key, text in (SECTIONS | sections).items()))
    return path


def complaints(path: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_study(path, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"datta": "{}"}, "datta: unknown key"),
        ({"data": "{nmae: digits}"}, "data.nmae: unknown key"),
        ({"methods": "{retrain: {trails: 3}}"}, "methods.retrain.trails: unknown key"),
        ({"methods": "[rme]"}, "methods.rme: unknown method 'rme'"),
        ({"methods": "[]"}, "methods: "),
        ({"methods": "[{rem: {trials: 3}}]"}, "methods: "),
        ({"corruptions": "[]"}, "corruptions: "),
        ({"corruptions": "[fog]"}, "corruptions.0: "),
        ({"corruptions": "[poison, poison]"}, "corruptions: one is listed twice"),
        (
            {"corruptions": "[{name: interclass_confusion, classes: [3, 3]}]"},
            "classes must be two different ones",
        ),
        (
            {"corruptions": "[{name: semantic_contamination, source: 3, target: 3}]"},
            "source and target must be two different classes",
        ),
        ({"corruptions": "[{name: blended_trigger, alpha: 1}]"}, "corruptions.0.blended_trigger.alpha: "),
        ({"corruptions": "[given]"}, "corruptions.0.given.file: is missing"),
        ({"corruptions": "[{name: given, file: a.csv, samples: 9}]"}, "corruptions.0.given.samples: unknown key"),
        (
            {"corruptions": "[{name: given, file: a.csv}]", "data": "{train_samples: 100}"},
            "data.train_samples: must be left out",
        ),
        ({"protocol": "strict"}, "protocol: "),
        ({"corruptions": "[{name: poison, target: -1}]"}, "corruptions.0.poison.target: "),
        ({"discovery_rates": "[0]"}, "discovery_rates.0: "),
        ({"discovery_rates": "[0.5, 1.5]"}, "discovery_rates.1: "),
        ({"discovery_rates": "[.nan]"}, "discovery_rates.0: "),
        ({"discovery_rates": "[0.5, 0.5]"}, "discovery_rates: one is listed twice"),
        ({"model": "{width: 0}"}, "model.width: "),
        ({"model": "{width: .inf}"}, "model.width: "),
        ({"original": "{weight_decay: .inf}"}, "original.weight_decay: "),
        ({"original": "{batch_size: 1}"}, "original.batch_size: "),
        ({"data": "{image_size: 8}"}, "data.image_size: "),
        ({"data": "3"}, "data: "),
        ({"seed": "-1"}, "seed: "),
        ({"name": "a/b"}, "name: "),
        ({"objective": "healed"}, "objective: "),
        ({"sampler": "{name: grid}"}, "sampler.name: "),
        ({"pruner": "{name: median}"}, "pruner.name: a trial of one replicate"),
        (
            {"pruner": "{name: median}", "sampler": "{name: nsga2}", "budget": "{replicates: 2}"},
            "pruner.name: nsga2 has two objectives",
        ),
        (
            {"max_utility_loss": "0.1", "objective": "score_deployable"},
            "max_utility_loss: needs objective score_oracle",
        ),
        ({"max_utility_loss": "0.1", "sampler": "{name: nsga2}"}, "max_utility_loss: nsga2 searches by"),
        ({"max_utility_loss": "-0.1"}, "max_utility_loss: "),
        ({"confirm": "{replicates: 0, everywhere: true}"}, "everywhere: needs replicates of 1 or more"),
        ({"confirm": "{replicates: 0}"}, "confirm.replicates: after a race, 1 or more"),
        ({"race": "{replicates: 1}"}, "replicates: one says nothing of noise"),
        ({"confirm": "{top: 2}"}, "confirm.top: unknown key"),
        ({"neighbours": "{from_trial: 0}"}, "neighbours.from_trial: "),
        ({"budget": "{sample_passes: 0}"}, "budget.sample_passes: "),
        ({"warm_start": "nowhere.yaml"}, "warm_start: "),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_field(tmp_path, sections, message):
    path = write(tmp_path, **sections)
    (line,) = complaints(path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_two_mistakes_are_two_lines(tmp_path):
    path = write(tmp_path, model="{width: 0}", discovery_rates="[2]")
    lines = complaints(path)
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in lines] == [
        "model.width",
        "discovery_rates.0",
    ]


def test_mistakes_in_two_methods_are_two_lines(tmp_path):
    lines = complaints(write(tmp_path, methods="{rem: {fixed: {lr: 9.0}}, rme: }"))
    assert ["methods.rem.fixed.lr" in lines[0], "methods.rme" in lines[1], len(lines)] == [True, True, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: {width: 1, width: 2}\n", "line 1, column 19: key 'width' stands twice"),
        (b"seed: 1\nseed: 2\n", "line 2, column 1: key 'seed' stands twice"),
        (b"seed: 1\nname: a: b\n", "line 2, column 8: mapping values are not allowed here"),
        (b"seed: [1\n", "line 2, column 1: "),
        (b"name: \xff\n", "is not UTF-8 text"),
        (b"- a list\n", "must be a mapping of keys to values"),
        (b"", "must be a mapping of keys to values"),
        (b"? [a, b]\n: 1\n", "a key must be text"),
    ],
)
def test_a_file_that_is_no_study_is_one_line_that_names_it(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    (line,) = complaints(path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_a_missing_file_is_one_line_that_names_it(tmp_path):
    path = tmp_path / "absent.yaml"
    assert complaints(path) == [f"{path}: No such file or directory"]


def test_a_merged_mapping_may_be_overridden_key_by_key():
    loaded = load_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, x: 5}", "here")
    assert (loaded["b"], loaded["c"]) == ({"x": 1, "y": 3}, {"x": 5, "y": 3})


def test_of_several_merged_mappings_the_first_counts():
    loaded = load_yaml(
        "a: &a {trials: 1}\nb: &b {trials: 2, cpus: 3}\nc: {<<: [*a, *b]}\nd: {<<: [*b, *a], cpus: 4}", "here"
    )
    assert (loaded["c"], loaded["d"]) == ({"trials": 1, "cpus": 3}, {"trials": 2, "cpus": 4})


def test_what_cannot_be_merged_is_named():
    with pytest.raises(InputError, match=r"^here: line 1, column 10: << takes a mapping, or a list of mappings$"):
        load_yaml("a: {<<: [3]}", "here")


def test_no_object_is_built_from_a_tag(tmp_path):
    victim = tmp_path / "made"
    path = write(tmp_path, name=f'!!python/object/apply:os.system ["touch {victim}"]')
    (line,) = complaints(path)
    assert "python/object/apply:os.system" in line and line.startswith(f"{path}: line 4, column 7: ")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2E+3", -2000.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("1_0e1", 100.0),
        ("3", 3),
        ("0.5", 0.5),
    ],
)
def test_a_number_in_scientific_notation_is_a_number(text, value):
    assert load_yaml(text, "here") == value
    assert type(load_yaml(text, "here")) is type(value)


@pytest.mark.parametrize("text", ["1e", "e4", "1e-4x", "res1"])
def test_what_only_resembles_a_number_stays_text(text):
    assert load_yaml(text, "here") == text


def test_a_fixed_value_in_scientific_notation_reaches_the_space_as_a_number(tmp_path):
    study = load_study(write(tmp_path, methods="{finetune: {fixed: {lr: 1e-3}}}"))
    assert study.spaces["finetune"].defaults["lr"] == 0.001


OWN_SPACE = """
method: ascent
summary: mine
reference: nobody
parameters:
  mode: {type: categorical, choices: [a, b], default: a, source: mine}
  lr: {type: float, low: 0.001, high: 0.1, default: 0.01, log: true, source: mine}
  passes: {type: int, low: 1, high: 9, default: 3, source: mine, when: {mode: [b]}}
"""


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("low: 0.001, high: 0.1", "low: 0.1, high: 0.001", "parameters.lr", "not below"),
        ("default: 0.01", "default: 0.5", "parameters.lr", "0.5 is not in [0.001, 0.1]"),
        ("low: 0.001", "low: 0", "parameters.lr", "low > 0"),
        ("low: 0.001", "low: -1", "parameters.lr", "low > 0"),
        ("high: 0.1", "high: .inf", "parameters.lr", "finite"),
        ("default: 3", "default: 3.5", "parameters.passes", "integer"),
        ("default: a", "default: c", "parameters.mode", "'c' is not one of"),
        ("[a, b]", "[a, a]", "parameters.mode", "listed twice"),
        ("{mode: [b]}", "{mood: [b]}", "passes.when", "'mood'"),
        ("{mode: [b]}", "{mode: [z]}", "passes.when.mode", "'z'"),
        ("{mode: [b]}", "{lr: [0.01]}", "passes.when", "'lr' is not a categorical parameter"),
        ("type: int", "type: complex", "parameters.passes", "complex"),
        ("method: ascent", "method: npo", "method", "'npo'"),
        ("reference: nobody\n", "", "reference", "is missing"),
        ("log: true", "lgo: true", "parameters.lr", "unknown key"),
    ],
)
def test_a_mistake_in_a_users_search_space_is_one_line_that_names_file_and_field(tmp_path, old, new, field, reason):
    assert old in OWN_SPACE
    (tmp_path / "own.yaml").write_text(OWN_SPACE.replace(old, new))
    (line,) = complaints(write(tmp_path, methods="{ascent: {space: own.yaml}}"))
    for part in ("mine.yaml", "methods.ascent", "own.yaml", field, reason):
        assert part in line


def test_a_users_search_space_is_found_beside_the_study_file(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_SPACE)
    study = load_study(write(tmp_path, methods="{ascent: {space: own.yaml}}"))
    space = study.spaces["ascent"]
    assert space.defaults == {"mode": "a", "lr": 0.01, "passes": 3}
    assert not space.is_active("passes", {"mode": "a"}) and space.is_active("passes", {"mode": "b"})


def test_a_search_space_file_that_is_not_there_is_an_input_error(tmp_path):
    (line,) = complaints(write(tmp_path, methods="{ascent: {space: absent.yaml}}"))
    assert "methods.ascent" in line and "absent.yaml" in line


@pytest.mark.parametrize("field", ["fixed", "defaults"])
@pytest.mark.parametrize(
    ("values", "where", "reason"),
    [
        ("{widht: 1}", "widht", "no such hyperparameter"),
        ("{redirect_width: 7}", "redirect_width", "7.0 is not in [0.125, 1.0]"),
        ("{redirect_width: wide}", "redirect_width", "'wide' is not in"),
        ("{epochs: 2.5}", "epochs", "2.5 is not a whole number"),
        ("{epochs: true}", "epochs", "True is not in"),
        ("{erase_mode: burn}", "erase_mode", "'burn' is not one of"),
    ],
)
def test_an_impossible_hyperparameter_value_is_one_line(tmp_path, field, values, where, reason):
    (line,) = complaints(write(tmp_path, methods=f"{{rem: {{{field}: {values}}}}}"))
    assert f"methods.rem.{field}.{where}: " in line and reason in line


def test_a_fixed_hyperparameter_is_not_searched_and_a_default_still_is(tmp_path):
    study = load_study(write(tmp_path, methods="{rem: {fixed: {beta: 2}, defaults: {epochs: 4}}}"))
    parameters = study.spaces["rem"].parameters
    assert (parameters["beta"].default, parameters["beta"].search) == (2.0, False)
    assert (parameters["epochs"].default, parameters["epochs"].search) == (4, True)


def test_overrides_reach_sections_that_the_file_leaves_out(tmp_path):
    study = load_study(write(tmp_path), ("model.width=0.5", "original.lr=1e-2", "discovery_rates=[0.1, 1]"))
    assert (study.spec.model.width, study.spec.original.lr) == (0.5, 0.01)
    assert study.spec.discovery_rates == (0.1, 1.0)


def test_an_override_reaches_into_a_list_of_methods(tmp_path):
    path = write(tmp_path, methods="[rem, npo]")
    study = load_study(path, ("methods.npo.trials=3", "methods.rem.fixed.beta=2"))
    assert list(study.spec.methods) == ["rem", "npo"]
    assert study.spec.methods["npo"].trials == 3
    assert study.spaces["rem"].defaults["beta"] == 2.0


@pytest.mark.parametrize("override", ["seed", "=3", "seed.deep=3", "corruptions.name=poison", "seed=[1"])
def test_an_override_that_cannot_be_applied_is_one_line_that_quotes_it(tmp_path, override):
    (line,) = complaints(write(tmp_path, seed="1"), (override,))
    assert f"--set {override}" in line


def test_the_name_is_the_files_unless_given(tmp_path):
    assert load_study(write(tmp_path)).spec.name == "mine"
    assert load_study(write(tmp_path), name="other").spec.name == "other"


def test_the_honest_protocol_is_the_default_and_the_other_another_study(tmp_path):
    honest, paper = load_study(write(tmp_path)).spec, load_study(write(tmp_path, protocol="paper")).spec
    assert (honest.protocol, paper.protocol) == ("honest", "paper")
    assert honest.identity() != paper.identity()


def test_a_study_written_as_plain_values_and_read_again_is_the_same(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_SPACE)
    methods = "{ascent: {space: own.yaml, fixed: {lr: 2e-3}}, rem: {defaults: {epochs: 4}, trials: 3}, retrain: }"
    corruptions = "[poison, {name: interclass_confusion, classes: [1, 7], samples: 20}]"
    study = load_study(write(tmp_path, methods=methods, corruptions=corruptions, discovery_rates="[0.1, 1]"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "study.yaml").write_text(yaml.safe_dump(study.spec.plain(), sort_keys=False))
    again = load_study(elsewhere / "study.yaml")
    assert isinstance(again, Study) and again == study
    assert again.spec.plain() == study.spec.plain()


def test_resources_and_tracking_are_no_part_of_a_studys_identity(tmp_path):
    plain = load_study(write(tmp_path)).spec
    moved = load_study(write(tmp_path, resources="{cpus: 4}", tracking="{uri: 'http://x'}")).spec
    other = load_study(write(tmp_path, seed="1")).spec
    assert plain.identity() == moved.identity() != other.identity()


def test_retraining_has_one_trial_whatever_the_budget(tmp_path):
    study = load_study(write(tmp_path, methods="[retrain, rem]", budget="{trials: 30}"))
    assert (study.trials("retrain"), study.trials("rem")) == (1, 30)


def test_a_cardinality_counts_the_searched_values(tmp_path):
    # two choices, 9 whole numbers from 1 to 9; 0.001 to 0.1 is a continuum until fixed
    (tmp_path / "own.yaml").write_text(OWN_SPACE)
    space = load_space("ascent", tmp_path / "own.yaml")
    assert space.cardinality() == math.inf
    assert space.fixed({"lr": 0.01}).cardinality() == 18
    stepped = OWN_SPACE.replace("log: true", "step: 0.033").replace("low: 1, high: 9", "low: 1, high: 9, step: 4")
    (tmp_path / "own.yaml").write_text(stepped)
    assert load_space("ascent", tmp_path / "own.yaml").cardinality() == 2 * 4 * 3


def test_a_float_default_is_a_float_even_where_the_file_says_a_whole_number(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_SPACE.replace("high: 0.1, default: 0.01", "high: 10, default: 1"))
    value = load_space("ascent", tmp_path / "own.yaml").defaults["lr"]
    assert value == 1 and type(value) is float


def test_a_study_may_change_ranges_and_start_elsewhere(tmp_path):
    path = write(tmp_path, methods="{rem: {ranges: {lr: {low: 1e-6, high: 1e-3, default: 2e-5}}}}")
    lr = load_study(path).spaces["rem"].parameters["lr"]
    assert (lr.low, lr.high, lr.default, lr.log) == (1e-6, 1e-3, 2e-5, True)


def test_a_study_may_search_what_is_not_searched_by_default(tmp_path):
    path = write(tmp_path, methods="{rem: {ranges: {mmd_weight: {search: true, default: 0.1}}}}")
    assert not load_space("rem").parameters["mmd_weight"].search
    searched = load_study(path).spaces["rem"].parameters["mmd_weight"]
    assert (searched.search, searched.default, searched.low) == (True, 0.1, 0.001)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ("{lr: {low: 1.0}}", "lr: low 1.0 is not below high 0.05"),
        ("{lr: {hihg: 1.0}}", "lr: hihg: unknown key"),
        ("{speed: {low: 1.0}}", "speed: rem has no such hyperparameter"),
        ("{epochs: {high: 2.5}}", "epochs: high: "),
        ("{mmd_weight: {search: true}}", "mmd_weight: 0.0 may be fixed, but a search does not reach it"),
    ],
)
def test_a_wrong_change_of_a_range_names_its_field(tmp_path, ranges, expected):
    path = write(tmp_path, methods=f"{{rem: {{ranges: {ranges}}}}}")
    (line,) = complaints(path)
    assert line.startswith(f"{path}: methods.rem.ranges.{expected}")
