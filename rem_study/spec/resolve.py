"""From a study file to a study: read, overrides applied, checked, search spaces and starting points written out."""

from __future__ import annotations

from typing import Any

from rem_study.errors import InputError
from rem_study.spec.space import SearchSpace, load_space
from rem_study.spec.study import Study, StudySpec, methods_as_mapping
from rem_study.spec.warm_start import starting_points
from rem_study.spec.yaml_file import field_name, load_yaml, one_line, read_text, validate
from rem_study.storage import Folder


def load_study(path: Folder, overrides: tuple[str, ...] = (), name: str | None = None) -> Study:
    """The study file at `path`, with `key.path=value` overrides applied.

    Raises:
        InputError: one line a mistake, naming file and field.
    """
    return resolve(read_document(path, overrides, name), str(path), path.parent)


def read_document(path: Folder, overrides: tuple[str, ...] = (), name: str | None = None) -> dict[str, Any]:
    """The study file at `path` as plain values, overrides applied, its fields not checked yet. Raises InputError."""
    document = load_yaml(read_text(path), str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path}: must be a mapping of keys to values")
    document.setdefault("name", path.stem)
    for override in overrides:
        _apply(document, override)
    if name is not None:
        document["name"] = name
    return document


def resolve(document: dict[str, Any], origin: str, folder: Folder) -> Study:
    """A study from plain values; paths in it are relative to `folder`. Raises InputError."""
    try:
        spec = validate(StudySpec, document, origin)
    except InputError as error:
        raise InputError("\n".join([str(error), *_unknown_methods(document, origin)])) from None
    resolved, spaces, mistakes = {}, {}, []
    for method, method_spec in spec.methods.items():
        try:
            given = method_spec.space
            base = given if isinstance(given, SearchSpace) else load_space(method, folder / given if given else None)
        except InputError as error:
            mistakes.append(f"{origin}: methods.{field_name(method)}: {error}")
            continue
        space = base
        for field, change in (
            ("ranges", SearchSpace.with_ranges),
            ("defaults", SearchSpace.with_defaults),
            ("fixed", SearchSpace.fixed),
        ):
            try:
                space = change(space, getattr(method_spec, field))
            except InputError as error:
                mistakes.append(f"{origin}: methods.{field_name(method)}.{field}.{error}")
        spaces[method] = space
        resolved[method] = method_spec.model_copy(update={"space": base})
    if not mistakes and spec.warm_start is not None:
        try:
            spec = spec.model_copy(update={"warm_start": starting_points(spec, spaces, folder)})
        except InputError as error:
            mistakes += [f"{origin}: warm_start: {line}" for line in str(error).splitlines()]
    if mistakes:
        raise InputError("\n".join(mistakes))
    return Study(spec=spec.model_copy(update={"methods": resolved}), spaces=spaces)


def _unknown_methods(document: dict[str, Any], origin: str) -> list[str]:
    """The lines for methods that there are not, in a document that is wrong elsewhere too."""
    try:
        methods = methods_as_mapping(document.get("methods"))
    except ValueError:
        return []
    lines = []
    for name in methods if isinstance(methods, dict) else ():
        if isinstance(name, str):
            try:
                load_space(name)
            except InputError as error:
                lines.append(f"{origin}: methods.{field_name(name)}: {error}")
    return lines


def _apply(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {one_line(override)}: must be key.path=value")
    *parents, last = key.split(".")
    node: Any = document
    for parent in parents:
        child = node.get(parent)
        if child is None:
            node[parent] = child = {}
        elif isinstance(child, list):
            try:
                node[parent] = child = methods_as_mapping(child) if parent == "methods" else child
            except ValueError as error:
                raise InputError(f"--set {one_line(override)}: {parent}: {error}") from None
        if not isinstance(child, dict):
            raise InputError(f"--set {one_line(override)}: {one_line(parent)} is not a mapping of keys to values")
        node = child
    node[last] = load_yaml(text, f"--set {one_line(override)}")
