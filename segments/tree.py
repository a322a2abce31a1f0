"""The frozen nodes a segment becomes: what is asked, free of JSON, clocks and engines.

``parse`` makes a tree whose leaves name fields as the rule did (``Asked``); ``check`` returns the same tree
with catalogue fields in their place. ``evaluate``, ``to_elasticsearch`` and ``to_sql`` read checked trees
only. Dates are instants already: integers of milliseconds since 1970 in UTC. Numbers are as the caller
wrote them, exact; how a field stores numbers is the business of ``numbers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from segments.fields import Field, Level

Scalar: TypeAlias = str | int | float | bool
Comparison: TypeAlias = Literal["eq", "gt", "ge", "lt", "le"]
Placing: TypeAlias = Literal["contains", "starts_with", "ends_with"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A field as a rule names it, before the catalogue has been asked."""

    pointer: str
    name: str
    type: str
    nesting_path: str | None
    operator: str


Fieldish: TypeAlias = Asked | Field


@dataclass(frozen=True, slots=True)
class And:
    """Every part matches; of no parts: everything."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part matches; of no parts: nothing."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The exact complement."""

    part: Tree


@dataclass(frozen=True, slots=True)
class Compare:
    """Some value of a number field compares so to ``value``; with ``eq``, of any scalar field."""

    field: Fieldish
    op: Comparison
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """Some value equals one of ``values``."""

    field: Fieldish
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Some number v with low <= v <= high; ``None`` leaves a side open."""

    field: Fieldish
    low: int | float | None
    high: int | float | None


@dataclass(frozen=True, slots=True)
class Period:
    """Some instant t with start <= t < end, in milliseconds; ``None`` leaves a side open."""

    field: Fieldish
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has at least one value that is not null."""

    field: Fieldish


@dataclass(frozen=True, slots=True)
class Text:
    """Some string has one of ``needles`` in that place, by simple case folding."""

    field: Fieldish
    placing: Placing
    needles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """Some child document at ``path`` matches ``part``; ``levels`` leads there, once checked."""

    path: str
    part: Tree
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True)
class Linked:
    """Some value of ``link`` equals some value of ``key`` in a document of another index that matches ``part``.

    Equality is that of a rule with ``is``; ``key`` and the fields of ``part`` are those of the other index.
    """

    index: str
    link: Fieldish
    key: Fieldish
    part: Tree


Leaf: TypeAlias = Compare | OneOf | Range | Period | Exists | Text
Tree: TypeAlias = And | Or | Not | Nested | Linked | Leaf

EVERYTHING = And(())


def all_of(*trees: Tree) -> Tree:
    """The documents every one of ``trees`` selects; so the service ANDs its own filter outside a caller's."""
    parts: list[Tree] = []
    for tree in trees:
        parts.extend(tree.parts if isinstance(tree, And) else (tree,))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def checked(field: Fieldish) -> Field:
    """The catalogue field of a leaf.

    Raises:
        TypeError: the tree has not been through ``check``.
    """
    if isinstance(field, Field):
        return field
    raise TypeError(f"the tree is unchecked: {field.name} has not been looked up in a catalogue")
