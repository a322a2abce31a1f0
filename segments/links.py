"""Groups about another index: what may be linked, and how a tree is walked for them.

A link is an equality of keys, so only fields whose values are exact in every engine can be one: strings, integers and
doubles. ``check`` asks here whether two fields fit; the sources ask which indices a tree speaks of and put what they
found in the place of a link. Nothing here reads documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from segments.fields import Field
from segments.numbers import INTEGERS
from segments.tree import And, Linked, Nested, Not, OneOf, Or, Scalar, Tree, checked

Kind = Literal["keyword", "number"]
_KINDS = "keys are keyword fields, text fields with a keyword sub-field, integers or doubles"


def linked(tree: Tree) -> Iterator[Linked]:
    """Every linked group of a tree, those inside others after them."""
    match tree:
        case And(parts) | Or(parts):
            for part in parts:
                yield from linked(part)
        case Not(part) | Nested(part=part):
            yield from linked(part)
        case Linked(part=part):
            yield tree
            yield from linked(part)
        case _:
            return


def substituted(tree: Tree, change: Callable[[Linked], Tree]) -> Tree:
    """The tree with ``change`` of each linked group in its place; groups inside others are left to ``change``."""
    match tree:
        case And(parts):
            return And(tuple([substituted(part, change) for part in parts]))
        case Or(parts):
            return Or(tuple([substituted(part, change) for part in parts]))
        case Not(part):
            return Not(substituted(part, change))
        case Linked():
            return change(tree)
        case _:
            return tree  # rules, and nested documents: no group lies inside them


def holding(link: Linked, keys: tuple[Scalar, ...]) -> Tree:
    """What a linked group comes down to once its keys are known: some value of the link is one of them."""
    field = checked(link.link)
    one_of = OneOf(field, keys)
    return one_of if field.nested is None else Nested(field.nested, one_of, field.levels)


def key_kind(field: Field) -> Kind | None:
    """Whether the field can be a key or hold one: None if it cannot."""
    if field.type in {"keyword", "text"}:
        return "keyword" if field.exact is not None else None
    return "number" if field.type == "number" and (field.storage in INTEGERS or field.storage == "double") else None


def unlinkable(field: Field) -> str:
    """Why the field cannot be a key or hold one; empty if it can."""
    if field.refusal:
        return field.refusal
    if key_kind(field) is not None:
        return ""
    return field.exact_refusal or f"it is a {field.storage} field; {_KINDS}"


def mismatch(link: Field, key: Field) -> str:
    """Why the two can never be equal; empty if they can."""
    here, there = key_kind(link), key_kind(key)
    if here == there:
        return ""
    return f"{link.name} is a {here} field and the key {key.name} a {there} field; both must be of one kind"


def with_parts(tree: Tree, change: Callable[[Linked], Tree]) -> Tree:
    """The tree with ``change`` of each linked group as the part of that group, inner groups first."""

    def rebuilt(link: Linked) -> Tree:
        inner = replace(link, part=substituted(link.part, rebuilt))
        return replace(inner, part=change(inner))

    return substituted(tree, rebuilt)


def with_keys(tree: Tree, keys: Callable[[Linked], tuple[Scalar, ...]]) -> Tree:
    """The tree without linked groups: ``keys`` says which each selects, asked of inner groups first."""

    def known(link: Linked) -> Tree:
        inner = replace(link, part=substituted(link.part, known))
        return holding(inner, keys(inner))

    return substituted(tree, known)
