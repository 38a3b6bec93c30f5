"""YAML files read into frozen pydantic models, with errors of one line each that name file and field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rem_study.errors import InputError, did_you_mean
from rem_study.spec.known_fields import known_fields
from rem_study.storage import Folder
from rem_study.storage.credentials import redact

Model = TypeVar("Model", bound=BaseModel)


LARGEST = 1_000_000
"""Values in a document, each alias counted as all that it stands for."""

DEEPEST = 50
"""Levels of lists and mappings in one another."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for what JSON has too: null, bool, int (64 bits), float, text, lists, mappings of text.

    Floats such as 1e-4 are numbers. A repeated key, a mark of another type (a date, say), an alias within what it
    stands for, and a document that is out of all proportion are errors.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _mistake("a key must be text: put it in quotes", key)
            if key.value in seen:
                raise _mistake(f"key {key.value!r} stands twice", key)
            seen.add(key.value)
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take what `<<` merges in: own keys before merged ones, of several mappings the first (YAML 1.1's merge type).

        PyYAML's own, as of 6.0.4, takes a value that was overridden on the way.
        """
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag != f"{_TAG}merge":
                own[key.value] = key, value
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise _mistake("<< takes a mapping, or a list of mappings", source)
                self.flatten_mapping(source)
                for inner, content in source.value:
                    merged.setdefault(inner.value, (inner, content))
        node.value = [*(merged | own).values()]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, LookupError):  # of a mark that does not fit, or an endless number
            raise _mistake(f"{_shown(node.value)} is no {node.tag.removeprefix(_TAG)}", node) from None
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise _mistake("a whole number of more than 64 bits", node)
        return value


_TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}

# YAML 1.1, as PyYAML reads it, takes 1e-4 for a string; YAML 1.2 and every user take it for a number.
_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _mistake(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node stands for, and how deeply they are nested. Raises MarkedYAMLError."""
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise _mistake("an alias stands within what it stands for", node)
        return measured
    if node.tag not in _PLAIN:
        raise _mistake(f"{_shown(node.tag.replace(_TAG, '!!'))} is not taken here: text goes in quotes", node)
    if isinstance(node, yaml.ScalarNode):
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise _mistake("half of a surrogate pair is no text", node) from None
        return 1, 0
    known[id(node)] = None
    parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    measures = [_measure(part, known) for part in parts]
    size, depth = 1 + sum(size for size, _ in measures), 1 + max((depth for _, depth in measures), default=0)
    if size > LARGEST:
        raise _mistake(f"more than {LARGEST:,} values", node)
    if depth > DEEPEST:
        raise _mistake(f"nested more than {DEEPEST} levels deep", node)
    known[id(node)] = size, depth
    return size, depth


def load_yaml(text: str, origin: str) -> Any:
    """The plain value that a YAML text holds: JSON's types, nothing shared. Raises InputError with origin, line and
    column."""
    try:
        return _unshared(yaml.load(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{origin}: {where}{one_line(error.problem or error.context)}") from None
    except RecursionError:
        raise InputError(f"{origin}: not YAML: nested more than {DEEPEST} levels deep") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{origin}: not YAML: {one_line(error)}") from None


def _unshared(value: Any) -> Any:
    """A copy in which an alias is a value of its own, so that changing it changes nothing else."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def one_line(text: object) -> str:
    """What an error message may hold of a text that anybody wrote: printable, on one line, not endless, no password."""
    line = redact(" ".join(str(text).split()))
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= 300 else f"{line[:297]}..."


def _shown(value: object) -> str:
    text = redact(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_text(path: Folder) -> str:
    """The text of a file the user named. Raises InputError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{one_line(path)}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{one_line(path)}: is not UTF-8 text") from None
    except ValueError as error:  # a path with a null byte
        raise InputError(f"{one_line(path)}: {error}") from None


def validate(model: type[Model], document: Any, origin: str) -> Model:
    """`document` as a `model`. Raises InputError, one line a mistake: origin, field, what is wrong."""
    if not isinstance(document, dict):
        raise InputError(f"{origin}: must be a mapping of keys to values")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError("\n".join(_line(origin, mistake, model) for mistake in _causes(error.errors()))) from None


def parse_file(model: type[Model], path: Folder) -> Model:
    """The file at `path` as a `model`. Raises InputError naming file and field."""
    return validate(model, load_yaml(read_text(path), str(path)), str(path))


def _causes(mistakes: list[Any]) -> list[Any]:
    """Without the complaint that a list is too short only because its items are wrong."""
    places = [mistake["loc"] for mistake in mistakes]
    return [
        mistake
        for mistake in mistakes
        if mistake["type"] != "too_short"
        or not any(
            len(place) > len(mistake["loc"]) and place[: len(mistake["loc"])] == mistake["loc"] for place in places
        )
    ]


def field_name(text: str) -> str:
    """How messages call a key that anybody wrote: as it is, or quoted where that would be misread."""
    return text if re.fullmatch(r"[\w/@-]+(\.\d+)?", text) and len(text) <= 80 else redact(repr(text[:60]))


def _meant(mistake: Any) -> str:
    """What one of a list of words was likely meant to be: pydantic names them all."""
    context = mistake.get("ctx", {})
    given = mistake["input"]
    if isinstance(given, dict):  # of which one field says what it is
        given = context.get("tag", given.get("name"))
    expected = context.get("expected_tags") or context.get("expected") or ", ".join(map(repr, context.get("known", ())))
    return did_you_mean(given, re.findall(r"'([^']*)'", str(expected)))


def _line(origin: str, mistake: Any, model: type[BaseModel]) -> str:
    unknown = mistake["type"] == "extra_forbidden"
    parts = [str(part) for part in mistake["loc"]]
    # `<kind>`, which of several a mapping is, stands in no file; an unknown key may be called like that.
    kept = [part for part in parts[:-1] if not re.fullmatch(r"<\w+>", part)]
    kept += [part for part in parts[-1:] if unknown or not re.fullmatch(r"<\w+>", part)]
    field = ".".join(map(field_name, kept))
    if unknown:
        message = f"unknown key{did_you_mean(parts[-1], known_fields(model, mistake['loc'][:-1]))}"
    elif mistake["type"] == "missing":
        message = "is missing"
    elif mistake["type"] == "string_unicode":
        message = f"{_shown(mistake['input'])} is not UTF-8; rename it, or make a link to it that is"
    else:
        message = mistake["msg"].removeprefix("Value error, ")
        if isinstance(mistake["input"], (str, int, float)):
            message += f" (it is {_shown(mistake['input'])})"
        message += _meant(mistake)
    message = one_line(message)
    return f"{origin}: {field}: {message}" if field else f"{origin}: {message}"
