"""YAML files read into frozen pydantic models, with errors of one line each that name file and field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rem_study.errors import InputError
from rem_study.folder import Folder

Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with floats such as 1e-4 as numbers and a repeated key as an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
        return node


# YAML 1.1, as PyYAML reads it, takes 1e-4 for a string; YAML 1.2 and every user take it for a number.
_UniqueKeyLoader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
_UniqueKeyLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load_yaml(text: str, origin: str) -> Any:
    """The plain value that a YAML text holds. Raises InputError with origin, line and column."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{origin}: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: not YAML: {' '.join(str(error).split())}") from None


def read_text(path: Folder) -> str:
    """The text of a file the user named. Raises InputError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None


def validate(model: type[Model], document: Any, origin: str) -> Model:
    """`document` as a `model`. Raises InputError, one line a mistake: origin, field, what is wrong."""
    if not isinstance(document, dict):
        raise InputError(f"{origin}: must be a mapping of keys to values")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError("\n".join(_line(origin, mistake) for mistake in _causes(error.errors()))) from None


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


def _line(origin: str, mistake: Any) -> str:
    parts = [str(part) for part in mistake["loc"]]
    field = ".".join(part for part in parts if not part.startswith("<"))  # `<kind>`: which of several a mapping is
    if mistake["type"] == "extra_forbidden":
        message = "unknown key"
    elif mistake["type"] == "missing":
        message = "is missing"
    else:
        message = mistake["msg"].removeprefix("Value error, ")
        if isinstance(mistake["input"], (str, int, float)):
            message += f" (it is {mistake['input']!r})"
    message = " ".join(message.split())
    return f"{origin}: {field}: {message}" if field else f"{origin}: {message}"
