"""The study file as a JSON Schema, for editors: what pydantic says of it, and what is read before pydantic looks.

A name left out is the file's, methods may be a list, a corruption its name alone; and each method's hyperparameters are
known by name, with their defaults and sources.
"""

from __future__ import annotations

from typing import Any

from rem_study.spec.space import CategoricalParameter, Parameter, known_methods, load_space
from rem_study.spec.study import StudySpec

SCHEMA_FILE = "rem-study.schema.json"
EDITOR_LINE = "# yaml-language-server: $schema={}"
"""A study file's first line, by which editors with the YAML language server (VS Code, Neovim, Emacs, ...) use a schema:
a path relative to the file, or a URL."""


def study_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) that every valid study file satisfies."""
    schema = _any_of(StudySpec.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rem-study's study file"
    schema["required"] = [name for name in schema["required"] if name != "name"]
    fields = schema["properties"]
    named = fields["corruptions"]["items"]
    made = [name for name in named["discriminator"]["mapping"] if name != "given"]  # which needs a file
    fields["corruptions"]["items"] = {"anyOf": [{"enum": made}, named]}
    methods = known_methods()
    fields["methods"] = {
        "description": "a list of names, or a mapping from names to what the study says of each",
        "anyOf": [
            {"type": "array", "items": {"enum": methods}, "minItems": 1, "uniqueItems": True},
            {
                "type": "object",
                "properties": {method: _method(method) for method in methods},
                "additionalProperties": False,
                "minProperties": 1,
            },
        ],
    }
    return schema


def _any_of(node: Any) -> Any:
    """A schema in which one of several need not be the only one: a kind of original is also of the base's kinds."""
    if isinstance(node, dict):
        return {"anyOf" if key == "oneOf" else key: _any_of(value) for key, value in node.items()}
    return [_any_of(value) for value in node] if isinstance(node, list) else node


def _method(method: str) -> dict[str, Any]:
    space = load_space(method)
    known = {name: {"properties": {name: _value(p) for name, p in space.parameters.items()}} for name in _HOLDING}
    known["ranges"] = {"properties": {name: {"description": _told(p)} for name, p in space.parameters.items()}}
    said = {"allOf": [{"$ref": "#/$defs/MethodSpec"}], "properties": known}
    return {"description": space.summary, "anyOf": [said, {"type": "null"}]}


_HOLDING = ("fixed", "defaults")


def _value(parameter: Parameter) -> dict[str, Any]:
    """What an editor offers for one hyperparameter. Bounds are not said: a user's own space may have others."""
    examples = parameter.choices if isinstance(parameter, CategoricalParameter) else [parameter.default]
    return {"description": _told(parameter), "default": parameter.default, "examples": examples}


def _told(parameter: Parameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        return f"one of {parameter.choices}; default {parameter.default}. {parameter.source}"
    return f"{parameter.type} in [{parameter.low}, {parameter.high}]; default {parameter.default}. {parameter.source}"
