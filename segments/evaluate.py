"""The meaning of a tree: does it select this document?

The oracle that the SQL and the Elasticsearch query are tested against, so it is written to be read, not to be
fast, and shares no arithmetic with them beyond what a field makes of a value when it stores it. It reads
documents as ``json.loads`` gives them. The service uses it where one document is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from segments.fields import Field, Level
from segments.folding import fold
from segments.instants import instant
from segments.links import linked, with_keys
from segments.numbers import operand, stored
from segments.tree import (
    And,
    Compare,
    Exists,
    Leaf,
    Linked,
    Nested,
    Not,
    OneOf,
    Or,
    Period,
    Range,
    Scalar,
    Text,
    Tree,
    checked,
)

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, bound: value == bound,
    "gt": lambda value, bound: value > bound,
    "ge": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "le": lambda value, bound: value <= bound,
}


Document: TypeAlias = Mapping[str, Any]
_NO_DOCUMENTS: Mapping[str, Sequence[Document]] = MappingProxyType({})


def evaluate(tree: Tree, document: Document, documents: Mapping[str, Sequence[Document]] = _NO_DOCUMENTS) -> bool:
    """Whether the checked ``tree`` selects ``document``.

    Args:
        tree: what is asked.
        document: as ``json.loads`` gives it.
        documents: the documents of the same chain in the indices that groups of the tree are about, by name.
    """
    return _selects(resolved(tree, documents), document)


def resolved(tree: Tree, documents: Mapping[str, Sequence[Document]]) -> Tree:
    """The tree with the keys that these documents give in the place of each linked group.

    Raises:
        KeyError: a group is about an index that ``documents`` does not have.
    """

    def keys(link: Linked) -> tuple[Scalar, ...]:
        chosen = (document for document in documents[link.index] if _selects(link.part, document))
        found = (value for document in chosen for value in _held(checked(link.key), document))
        return tuple(dict.fromkeys(found))

    return with_keys(tree, keys) if any(True for _ in linked(tree)) else tree


def _selects(tree: Tree, document: Document) -> bool:
    match tree:
        case And(parts):
            return all(_selects(part, document) for part in parts)
        case Or(parts):
            return any(_selects(part, document) for part in parts)
        case Not(part):
            return not _selects(part, document)
        case Nested(part=part, levels=levels):
            return any(_selects(part, child) for child in children_at(document, levels))
        case Linked():
            raise TypeError("linked groups inside nested documents have no meaning")
        case _:
            return _leaf(tree, document)


def children_at(document: Document, levels: Sequence[Level]) -> list[Document]:
    """The nested documents that the levels lead to; of no levels the document itself."""
    children = [document]
    for level in levels:
        found = (value for child in children for value in values_at(child, level.parts))
        children = [cast("Document", value) for value in found if isinstance(value, dict)]
    return children


def values_at(document: Mapping[str, Any], parts: tuple[str, ...]) -> Iterator[object]:
    """Every value that is not null at a dotted path, through objects and arrays of any depth.

    ``{"a.b": 1}`` and ``{"a": {"b": 1}}`` say the same, as they do to Elasticsearch.
    """
    for taken in range(1, len(parts) + 1):
        member = parts[0] if taken == 1 else ".".join(parts[:taken])
        if member in document:
            for value in _flat(document[member]):
                if taken == len(parts):
                    yield value
                elif isinstance(value, dict):
                    yield from values_at(cast("Mapping[str, Any]", value), parts[taken:])


def _flat(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _flat(item)
    elif value is not None:
        yield value


def _leaf(leaf: Leaf, document: Document) -> bool:
    field = checked(leaf.field)
    matches = _matcher(leaf, field.storage if field.type == "number" else "")
    return any(matches(value) for value in _held(field, document))


def _held(field: Field, document: Document) -> Iterator[Any]:
    """What the field holds of the document's values: those of them it can hold."""
    values = values_at(document, field.parts)
    if field.type == "number":
        held = (stored(value, field.storage) for value in values)
    elif field.type == "date":
        held = (instant(value, field.date_format) for value in values)
    elif field.type == "boolean":
        held = map(_boolean, values)
    else:
        held = map(_string, values)
    return (value for value in held if value is not None)


def _boolean(value: object) -> bool | None:
    """Elasticsearch reads the strings too, the empty one as false."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "": False}.get(value) if isinstance(value, str) else None


def _string(value: object) -> str | None:
    """Strings, and what Elasticsearch keeps of other scalars in a keyword field: their JSON text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return value if isinstance(value, str) else None


def _matcher(leaf: Leaf, storage: str) -> Callable[[Any], bool]:
    """The test a value that is not null must pass; ``storage`` for numbers only."""

    def bound(value: Scalar) -> Scalar | Decimal:
        return operand(cast("int | float", value), storage) if storage else value

    match leaf:
        case Exists():
            return lambda _value: True
        case Compare(op=op, value=value):
            return partial(_compared, op, bound(value))
        case OneOf(values=values):
            among = [bound(value) for value in values]
            return lambda value: value in among
        case Range(low=low, high=high):
            least, most = (None if side is None else bound(side) for side in (low, high))
            return partial(_between, least, most)
        case Period(start=start, end=end):
            return lambda value: (start is None or value >= start) and (end is None or value < end)
        case Text(placing=placing, needles=needles):
            folded = [fold(needle) for needle in needles]
            return partial(_placed, placing, folded)


def _compared(op: str, bound: object, value: object) -> bool:
    return _COMPARE[op](value, bound)


def _between(least: object, most: object, value: object) -> bool:
    return (least is None or _COMPARE["ge"](value, least)) and (most is None or _COMPARE["le"](value, most))


def _placed(placing: str, needles: list[str], value: str) -> bool:
    text = fold(value)
    if placing == "contains":
        return any(needle in text for needle in needles)
    return any(text.startswith(needle) if placing == "starts_with" else text.endswith(needle) for needle in needles)
