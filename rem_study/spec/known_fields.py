"""What a key could have been called: the fields of the model that a mistake's place lies in."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag


def known_fields(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names of the fields at `place`, a path of keys, list positions and the tags of unions as pydantic tells them
    (`corruptions`, 0, `poison`), the unknown key itself left out. Empty where it leads nowhere."""
    found: list[Any] = [model]
    for part in place:
        found = [inner for one in found for inner in _inside(one, part)]
    names = {name: None for one in found for leaf, _ in _leaves(one) if _is_model(leaf) for name in leaf.model_fields}
    return list(names)


def _inside(annotation: Any, part: int | str) -> Iterator[Any]:
    """What lies behind one part of a place: of a union those that it may be."""
    leaves = list(_leaves(annotation))
    tagged = [leaf for leaf, tag in leaves if tag == part or part in _literals(leaf)]
    if tagged:
        yield from tagged
        return
    for leaf, _ in leaves:
        if _is_model(leaf) and part in leaf.model_fields:
            yield leaf.model_fields[part].annotation
        elif get_origin(leaf) is dict:
            yield get_args(leaf)[1]
        elif get_origin(leaf) in (list, tuple):
            yield get_args(leaf)[0]


def _leaves(annotation: Any, tag: str | None = None) -> Iterator[tuple[Any, str | None]]:
    """The types that a union is made of, each with its tag."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        own = next((note.tag for note in notes if isinstance(note, Tag)), tag)
        yield from _leaves(inner, own)
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _leaves(one)
    else:
        yield annotation, tag


def _literals(leaf: Any) -> list[Any]:
    """The names by which a union knows a model: those of its field that says which one it is."""
    if not _is_model(leaf):
        return []
    kinds = [leaf.model_fields[name].annotation for name in ("name", "type") if name in leaf.model_fields]
    return [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]


def _is_model(leaf: Any) -> bool:
    return isinstance(leaf, type) and issubclass(leaf, BaseModel)
