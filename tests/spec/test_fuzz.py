"""Study files, search spaces and exported YAML under fire: whatever they hold, they are taken whole or refused by name.

Cases are mutated from the files that the project ships and generated from the schemas. What must hold of each:
a refusal is an InputError whose every line names the file and a field (or a place in the file), and never any other
exception; what is taken says what was written, lies within the ranges of the schema, and comes back equal when it is
written out and read again. `test_the_command_line...` holds the same of the commands, by exit status and output.
"""

import copy
import datetime
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rem_study.cli import main
from rem_study.errors import InputError
from rem_study.heal.choice import attempts
from rem_study.heal.request import HealRequest
from rem_study.search.suggest import CellSearch
from rem_study.spec.best import _Best
from rem_study.spec.resolve import load_study
from rem_study.spec.search import SamplerSpec
from rem_study.spec.space import SearchSpace, load_space
from rem_study.spec.study import StudySpec
from rem_study.spec.yaml_file import load_yaml, parse_file

CHECKOUT = Path(__file__).parents[2]
STUDIES = sorted((CHECKOUT / "studies").glob("*.yaml"))
SPACES = sorted((CHECKOUT / "search_spaces").glob("*.yaml"))
BEST = CHECKOUT / "docs" / "results" / "digits-best.yaml"


def cases(fast, thorough):
    """Runs a test on `fast` cases, and as a slow one on `thorough`; the same cases each time."""
    return pytest.mark.parametrize("count", [fast, pytest.param(thorough, marks=pytest.mark.slow)])


def fuzz(count):
    """Cases as they are generated: to make a failing one smaller takes minutes with documents of this size."""
    return settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# What a file may hold

NUMBERS = [0, -1, 1, 2, 10**9, 10**9 + 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 16**3000, 1e-320, 5e-324, 1e308]
NUMBERS += [-1e308, -0.0, math.nan, math.inf, -math.inf, 0.1 + 1e-9, 1 + 1e-9]
TEXTS = ["", " ", "\0", "\n", "a: b", "~nobody-here/x", "../../etc/passwd", "\ud800", "é\u202e\U0001f600", "x" * 5000]
TEXTS += [
    "8",
    "1e-3",
    "yes",
    "null",
    ".nan",
    "!!python/name:os.system",
    "*a",
    "torchvision/resnet18",
    "rem",
    "originals",
]
SCALARS = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=8),
    st.just(datetime.date(2026, 2, 3)),
    st.just(datetime.datetime(2026, 2, 3, 4)),
)
KEYS = st.one_of(st.text(max_size=10), st.sampled_from([*TEXTS, 0, 1.5, True, None, math.nan]))
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


def nested(depth, kind):
    value = 0
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


DEEP = st.builds(nested, st.sampled_from([3, 60, 120]), st.sampled_from(["list", "mapping"]))


def places(document, at=()):
    """Every path of keys and indices in a document."""
    yield at
    if len(at) > 12:  # it may hold itself: see `move`
        return
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, (*at, index))


@st.composite
def mutated(draw, documents):
    """A real document with one to three things changed."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([place for place in places(document) if place] or [("name",)]))
        node = document
        for key in parents:
            node = node[key]
        change = draw(st.sampled_from(["junk", "junk", "deep", "delete", "add", "rename", "repeat", "move", "scale"]))
        if change == "junk":
            node[last] = draw(JUNK)
        elif change == "deep":
            node[last] = draw(DEEP)
        elif change == "delete":
            del node[last]
        elif change == "add" and isinstance(node, dict):
            node[draw(KEYS)] = draw(JUNK)
        elif change == "rename" and isinstance(node, dict):
            node[draw(KEYS)] = node.pop(last)
        elif change == "repeat" and isinstance(node, list):
            node.append(node[last])  # the same object: an anchor and an alias
        elif change == "move":
            node[last] = draw(st.sampled_from([document["name"]] if "name" in document else [None, *document.values()]))
        elif change == "scale" and isinstance(node[last], (int, float)):
            node[last] = node[last] * draw(st.sampled_from([-1, 0, 0.5, 1.5, 1000, 1e6, 1e300]))
    return document


@st.composite
def conforming(draw, schema, root, junk=0.1):
    """A document of a JSON schema's shape, its numbers near the bounds, here and there something else."""
    schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if draw(st.floats(0, 1)) < junk:
        return draw(JUNK)
    if "const" in schema or "enum" in schema:
        return draw(st.sampled_from(schema.get("enum") or [schema["const"]]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            kinds = schema[union]
            kinds = kinds + [kind for kind in kinds if kind.get("type") == "null"] * 3
            return draw(conforming(draw(st.sampled_from(kinds)), root, junk))
    kind = schema.get("type")
    if kind == "object":
        document = {}
        for key, value in schema.get("properties", {}).items():
            if key in schema.get("required", []) or draw(st.integers(0, 3)) == 0:
                document[key] = draw(conforming(value, root, junk))
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            methods = "Method" in str(more) or "_Winner" in str(more)
            keys = st.sampled_from(
                ["rem", "npo", "retrain"] if methods else ["lr", "epochs", "erase_mode", "mean", "x"]
            )
            for key in draw(
                st.lists(
                    keys, min_size=schema.get("minProperties", schema.get("minLength", 0)), max_size=3, unique=True
                )
            ):
                document[key] = draw(conforming(more, root, junk))
        return document
    if kind == "array":
        if "prefixItems" in schema:
            return [draw(conforming(item, root, junk)) for item in schema["prefixItems"]]
        return [
            draw(conforming(schema.get("items", {}), root, junk))
            for _ in range(draw(st.integers(schema.get("minItems", 0), 3)))
        ]
    if kind in ("integer", "number"):
        bounds = [schema[b] for b in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if b in schema]
        lowest = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        inside = st.integers(lowest, lowest + 4) if kind == "integer" else st.floats(0.01, 0.9)
        near = st.sampled_from([bound + step for bound in bounds for step in (-1, 0, 1)] or [0])
        return draw(st.one_of(inside, inside, inside, inside, near) if junk else inside)
    if kind == "string":
        known = {r"^torchvision/\w+$": "torchvision/resnet18"}
        pattern = schema.get("pattern")
        return known.get(pattern) or draw(
            st.from_regex(pattern, fullmatch=True)
            if pattern
            else st.text(min_size=schema.get("minLength", 0), max_size=8)
        )
    return {"boolean": draw(st.booleans()), "null": None}.get(kind, draw(SCALARS))


SNIPPETS = [
    *["&a ", "*a", "<<: *a\n", "!!python/object/apply:os.system ['true'] ", "!!timestamp x ", "!!bool maybe "],
    *["!!int x ", "!!int '' ", "!!float '' ", "!!binary '*' ", "!!set {a, b} ", "!!omap [a: 1] ", "!!pairs [a: 1] "],
    *["!<x> ", "{", "]", "\t", "\0", "\ufeff", "? ", ": ", "- ", "---\n", "...\n", "%YAML 9.9\n", "#", "|\n", ">9\n"],
    *["'", '"', "\\ud800", "1" * 5000, "0x" + "f" * 5000, "1:60:60", "2026-13-45", "0o9", "-.inf", "\r", "\x85"],
    *["[" * 400, "{a: " * 400],
]


@st.composite
def damaged(draw, texts):
    """The text of a real file, as bytes, cut, torn and written over in a few places."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        starts = [0, *(match.end() for match in re.finditer(r"\n\s*|: |, |\[|\{", text))]
        start = draw(st.sampled_from(starts)) if draw(st.booleans()) else start
        gone = draw(st.sampled_from([0, 0, 0, 1, 2, 10, 40]))
        text = text[:start] + draw(st.sampled_from(["", *SNIPPETS])) + text[start + gone :]
    content = text.encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(min_size=1, max_size=3)) + content[place:]
    return content


def put(content, path):
    """Bytes as they are, anything else as YAML."""
    path.write_bytes(content) if isinstance(content, bytes) else written(content, path)


def written(document, path):
    """The document as YAML at `path`."""
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        yaml.safe_dump(document, file, sort_keys=False, allow_unicode=True)
    return path


# What must hold

PLACE = re.compile(r"line \d+, column \d+: \S|not YAML: \S|must be a mapping of keys to values$|is not UTF-8 text$")
PART = r"([\w@/-]+(\.\d+)?|'.*'|\".*\")"
FIELD = re.compile(rf"{PART}(\.{PART})*: \S")


def assert_refused(error, *origins):
    lines = str(error).split("\n")
    assert all(len(line) < 2000 and line.isprintable() for line in lines), lines
    for line in lines:
        origin = next((origin for origin in origins if line.startswith(f"{origin}: ")), None)
        if origin is None:
            assert re.match(r"--set .*: \S", line), line
            continue
        rest = line[len(str(origin)) + 2 :]
        assert PLACE.match(rest) or FIELD.match(rest), line


def says(plain, document, at=""):
    """Whether a resolved study says what its file does, without reading a number out of a text or the like."""
    field = at.rpartition(".")[2]
    if field in ("root", "file", "space"):
        return True  # made absolute, written out
    if isinstance(document, dict):
        return isinstance(plain, dict) and all(
            key in plain and says(plain[key], value, f"{at}.{key}") for key, value in document.items()
        )
    if at == ".methods":
        return list(plain) == document
    if at.startswith(".methods.") and document is None:
        return True
    if isinstance(document, list):
        return len(plain) == len(document) and all(map(says, plain, document, [at] * len(plain)))
    if isinstance(document, str) and isinstance(plain, dict):
        return plain.get("name") == document
    number = (int, float)
    return plain == document and (type(plain) is type(document) or {type(plain), type(document)} <= {*number})


STUDY_SCHEMA = json.loads(json.dumps(StudySpec.model_json_schema()).replace("oneOf", "anyOf"))  # kinds share a class


def check_study(path, overrides=()):
    """One case; returns whether the study was taken."""
    try:
        study = load_study(path, overrides)
    except InputError as error:
        assert_refused(error, path, path.parent / "space.yaml")
        return False
    plain = study.spec.plain()
    jsonschema.validate(plain, STUDY_SCHEMA)
    json.dumps(plain, allow_nan=False).encode()
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    again_path = path.with_name("again.yaml")
    again_path.write_text(text, encoding="utf-8")
    again = load_study(again_path)
    assert again == study and again.spec.plain() == plain and again.spec.identity() == study.spec.identity()
    if not overrides:
        document = load_yaml(path.read_text(encoding="utf-8"), "")
        assert says(plain, document), (plain, document)
    for method, space in study.spaces.items():
        check_space(space)
        assert study.trials(method) >= 1
    return True


def check_space(space):
    """A search space is searched as it says: every suggestion lies in it."""
    assert SearchSpace.model_validate(space.model_dump(exclude_defaults=True)) == space
    space.complete(space.defaults)
    assert space.cardinality() >= 1
    search = CellSearch(space, SamplerSpec(name="random"), 3, 3, ("fuzz",))
    for _ in range(3):
        _, configuration = search.ask()
        for name, value in configuration.items():
            space.parameters[name].check(value)


def documents(paths):
    return [yaml.safe_load(path.read_text()) for path in paths]


def texts(paths):
    return [path.read_text() for path in paths]


@cases(60, 800)
def test_studies_changed_in_a_few_places(count, tmp_path):
    @fuzz(count)
    @given(mutated(documents(STUDIES)))
    def holds(document):
        check_study(written(document, tmp_path / "study.yaml"))

    holds()


@cases(30, 400)
def test_studies_of_the_schemas_shape(count, tmp_path):
    taken = []

    @fuzz(count)
    @given(st.sampled_from([0.0, 0.01, 0.1]).flatmap(lambda junk: conforming(STUDY_SCHEMA, STUDY_SCHEMA, junk)))
    def holds(document):
        taken.append(check_study(written(document, tmp_path / "study.yaml")))

    holds()
    assert count < 100 or any(taken)


@cases(40, 500)
def test_studies_damaged_as_text(count, tmp_path):
    @fuzz(count)
    @given(damaged(texts(STUDIES)))
    def holds(content):
        (tmp_path / "study.yaml").write_bytes(content)
        check_study(tmp_path / "study.yaml")

    holds()


@st.composite
def overrides(draw, document):
    key = ".".join(map(str, draw(st.sampled_from([*places(document)]))))
    key = draw(st.sampled_from([key, key + ".x", key.rpartition(".")[0], "." + key, key.replace(".", "..")]))
    key = draw(st.one_of(st.just(key), st.just(key), st.text(max_size=12)))
    value = draw(st.one_of(SCALARS.map(repr), st.text(max_size=12), st.sampled_from(SNIPPETS), JUNK.map(str)))
    return f"{key}={value}" if draw(st.integers(0, 9)) else key


@cases(40, 400)
def test_overrides(count, tmp_path):
    quickstart = CHECKOUT / "studies" / "quickstart.yaml"
    path = tmp_path / "study.yaml"
    path.write_text(quickstart.read_text())

    @fuzz(count)
    @given(st.lists(overrides(yaml.safe_load(quickstart.read_text())), min_size=1, max_size=2).map(tuple))
    def holds(given_overrides):
        check_study(path, given_overrides)

    holds()


SPACE_SCHEMA = SearchSpace.model_json_schema()


@cases(60, 600)
def test_search_spaces(count, tmp_path):
    """By themselves, and as the file that a study names."""
    path = tmp_path / "space.yaml"
    study = {"corruptions": ["poison"], "discovery_rates": [0.5], "methods": {"npo": {"space": "space.yaml"}}}

    @fuzz(count)
    @given(
        mutated(documents(SPACES)) | conforming(SPACE_SCHEMA, SPACE_SCHEMA, 0.03) | damaged(texts(SPACES)),
        st.booleans(),
    )
    def holds(content, as_npo):
        if as_npo and isinstance(content, dict):
            content["method"] = "npo"
        put(content, path)
        try:
            space = parse_file(SearchSpace, path)
        except InputError as error:
            assert_refused(error, path)
        else:
            jsonschema.validate(space.model_dump(mode="json", exclude_defaults=True), SPACE_SCHEMA)
            check_space(space)
        check_study(written(study, tmp_path / "study.yaml"))

    holds()


BEST_DOCUMENT = yaml.safe_load(BEST.read_text())
SMALL_BEST = {
    **BEST_DOCUMENT,
    "cells": BEST_DOCUMENT["cells"][:2],
    "universal": {"rem": BEST_DOCUMENT["universal"]["rem"]},
}
BEST_SCHEMA = _Best.model_json_schema()


@cases(60, 600)
def test_exported_configurations(count, tmp_path):
    """best.yaml, as `rem-study heal --best` takes it."""
    path = tmp_path / "best.yaml"
    asked = st.sampled_from(
        [
            {},
            {"cell": "poison@0.1"},
            {"corruption": "poison", "discovery_rate": 0.2},
            {"corruption": "0.5", "discovery_rate": 1.0},
        ]
    )
    small = yaml.safe_dump(SMALL_BEST)

    @fuzz(count)
    @given(mutated([SMALL_BEST]) | conforming(BEST_SCHEMA, BEST_SCHEMA, 0.03) | damaged([small]), asked)
    def holds(content, options):
        put(content, path)
        request = HealRequest(Path("model.pt"), "resnet9", "digits", Path("ids.csv"), best=path, **options)
        try:
            [(recommendation, configuration)] = attempts(request)
        except InputError as error:
            assert_refused(error, path)
            return
        space = load_space("rem")
        assert set(configuration) == set(space.parameters)
        for name, value in configuration.items():
            space.parameters[name].check(value)
        score = recommendation.utility_x_healed
        assert math.isfinite(recommendation.distance) and (score is None or 0 <= score <= 1)

    holds()


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    return result


def assert_status_2(result, *origins):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    for line in result.stderr.splitlines():
        assert line.startswith("error: "), line
        assert_refused(line.removeprefix("error: "), *origins)


def is_small(spec):
    width = getattr(spec.model, "width", 1.0)
    return width <= 0.25 and spec.model.name == "resnet9" and (spec.data.image_size or 16) <= 32


@cases(15, 150)
def test_the_command_line_checks_a_study(count, tmp_path):
    path = tmp_path / "study.yaml"
    smoke = documents([CHECKOUT / "studies" / "smoke.yaml"])

    @fuzz(count)
    @given(mutated(smoke) | damaged(texts([CHECKOUT / "studies" / "smoke.yaml"])))
    def holds(content):
        put(content, path)
        try:
            if not is_small(load_study(path).spec):
                return  # taken; what large networks cost is not measured here
        except InputError:
            pass
        result = invoke("check", path)
        if result.exit_code:
            assert_status_2(result, path)
        else:
            assert "trials" in result.stdout

    holds()


@cases(15, 150)
def test_the_command_line_reads_a_folder(count, tmp_path):
    """study.yaml and best.yaml of a study's folder: status, export."""
    study, best = tmp_path / "study.yaml", tmp_path / "best.yaml"
    resolved = load_study(CHECKOUT / "studies" / "smoke.yaml").spec.plain()

    @fuzz(count)
    @given(
        mutated([resolved]) | damaged([yaml.safe_dump(resolved)]),
        mutated([SMALL_BEST]) | damaged([yaml.safe_dump(SMALL_BEST)]),
    )
    def holds(study_content, best_content):
        put(study_content, study)
        put(best_content, best)
        for command in (("status", tmp_path), ("export", tmp_path), ("export", tmp_path, "--format", "json")):
            result = invoke(*command)
            if result.exit_code:
                assert_status_2(result, study, best)
            elif "json" in command:
                json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    holds()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "name: !!timestamp x\n",
        "name: " + "1" * 5000 + "\n",
        "name: &a [*a]\n",
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(12)),
        "data: {root: '~nobody-here/x'}\n",
        'name: "\\ud800"\n',
        "\0",
    ],
    ids=["tag", "digits", "recursion", "expansion", "home", "surrogate", "null"],
)
def test_the_command_itself_ends_with_status_2_and_no_traceback(text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(path), "--root", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert_refused(done.stderr.rstrip("\n").replace("error: ", ""), path)
    assert not (tmp_path / "runs").exists()
