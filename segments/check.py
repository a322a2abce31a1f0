"""A tree against a catalogue: every field found and able to answer, or every fault at once.

A question is answered exactly or refused with the reason and what would help; nothing here is approximate.
Called by ``compile_segment`` and by the service before each run, since a mapping may have changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from segments.catalog import Catalog
from segments.errors import Fault, SegmentError, listed, shown
from segments.fields import Field, Level
from segments.links import mismatch, unlinkable
from segments.operators import OPERATORS
from segments.packing import MAX_CLAUSES, clauses
from segments.tree import (
    And,
    Asked,
    Compare,
    Exists,
    Leaf,
    Linked,
    Nested,
    Not,
    OneOf,
    Or,
    Scalar,
    Text,
    Tree,
    checked,
)

NO_OTHERS: Mapping[str, Catalog] = MappingProxyType({})

# Finding near names takes time in proportion to the name and to the catalogue.
_HINTS, _LONGEST_WORD = 20, 100


def check(tree: Tree, catalog: Catalog, others: Mapping[str, Catalog] = NO_OTHERS) -> Tree:
    """The tree with the catalogue's fields in it; ``others`` are the indices that groups may be about, by name.

    Raises:
        SegmentError: unknown fields, types that do not agree, questions the index cannot answer exactly.
    """
    found, faults = check_all(tree, catalog, others)
    if faults:
        raise SegmentError(faults)
    return found


def check_all(tree: Tree, catalog: Catalog, others: Mapping[str, Catalog] = NO_OTHERS) -> tuple[Tree, list[Fault]]:
    """The tree as far as its fields are known, and every fault."""
    checking = _Checking(catalog, others)
    found = checking.tree(tree)
    if not checking.faults and clauses(found) > MAX_CLAUSES:
        asked = f"asks {clauses(found):,} conditions, of which {MAX_CLAUSES:,} are allowed"
        detail = f"{asked}; shorten the lists of strings"
        checking.faults.append(Fault("/rules", "too_many", detail))
    return found, checking.faults


def operators_for(field: Field) -> list[str]:
    """The operators a rule on the field may use and get an exact answer from, in the order of the table."""
    if field.refusal:
        return []
    strings = {"keyword", "text"}
    return [
        row.name
        for row in OPERATORS.values()
        if any(
            kind in row.types and (row.build == "exists" or kind not in strings or field.exact is not None)
            for kind in field.types
        )
    ]


def equals(catalog: Catalog, field_name: str, value: str | bool | int) -> Tree:  # noqa: FBT001 - a value
    """The checked tree of documents whose field equals ``value``: the service's own filter, such as the chain.

    A number asked of a keyword field is asked by its digits.

    Raises:
        SegmentError: the catalogue has no such field outside nested documents, or it cannot answer.
    """
    field = catalog.get(field_name)
    reason = ""
    if field is None:
        reason = f"there is no field {field_name}"
    elif field.nested is not None:
        reason = f"{field_name} lies in nested documents"
    elif field.refusal:
        reason = f"{field_name} cannot be asked: {field.refusal}"
    elif field.type in {"keyword", "text"}:
        value, reason = (
            str(value),
            "" if field.exact else f"{field_name} cannot be asked: {field.exact_refusal}",
        )
    elif field.type != ("boolean" if isinstance(value, bool) else "number" if isinstance(value, int) else ""):
        reason = f"{field_name} is a {field.type} field and cannot equal {shown(value)}"
    if reason or field is None:
        raise SegmentError([Fault("", "not_answerable", reason)])
    return Compare(field, "eq", value)


def doubtful(tree: Tree) -> tuple[str, ...]:
    """The Elasticsearch fields whose unindexed values could change the answer, sorted; see ``doubts``."""
    found: set[str] = set()
    _doubts(tree, found)
    return tuple(sorted(found))


def _doubts(tree: Tree, found: set[str]) -> None:
    match tree:
        case And(parts) | Or(parts):
            for part in parts:
                _doubts(part, found)
        case Not(part) | Nested(part=part):
            _doubts(part, found)
        case Linked():
            raise TypeError("a linked group is a question of its own: put its keys in its place first")
        case _:
            field = checked(tree.field)
            name = _doubt(tree, field)
            if name:
                found.add(name)


def _doubt(leaf: Leaf, field: Field) -> str | None:
    """The field whose ``_ignored`` documents this leaf cannot judge."""
    if field.malformed:
        return field.query_name
    if field.ignore_above is None or field.exact is None:
        return None
    match leaf:
        case Text():
            doubt = True
        case Compare(value=value):
            doubt = _length(value) > field.ignore_above
        case OneOf(values=values):
            doubt = any(_length(value) > field.ignore_above for value in values)
        case Exists():
            # Outside nested documents the query asks _ignored itself; a text parent knows every value.
            doubt = field.storage == "keyword" and field.nested is not None
        case _:
            doubt = False
    return field.exact if doubt else None


def _length(value: Scalar) -> int:
    """UTF-16 units: how Elasticsearch counts a string against ``ignore_above``."""
    if not isinstance(value, str):
        return 0
    return len(value) if value.isascii() else len(value.encode("utf-16-le", "surrogatepass")) // 2


class _Checking:
    def __init__(self, catalog: Catalog, others: Mapping[str, Catalog], name: str = "") -> None:
        self.faults: list[Fault] = []
        self._catalog = catalog
        self._others = others
        self._name = f"the index {name}" if name else "the index"

    def tree(self, tree: Tree) -> Tree:
        match tree:
            case And(parts):
                return And(tuple([self.tree(part) for part in parts]))
            case Or(parts):
                return Or(tuple([self.tree(part) for part in parts]))
            case Not(part):
                return Not(self.tree(part))
            case Nested(path, part):
                inner = self.tree(part)
                return Nested(path, inner, _levels(inner))
            case Linked():
                return self._linked(tree)
            case _:
                return self._leaf(tree)

    def _linked(self, linked: Linked) -> Linked:
        link, key = linked.link, linked.key
        if isinstance(link, Field) or isinstance(key, Field):
            return linked
        here = self._end(link, "holds no key")
        if linked.index not in self._others:
            known = f"; known are {listed(list(self._others), 'and')}" if self._others else ""
            detail = f"there is no export index {shown(linked.index)}{known}"
            at = key.pointer.rpartition("/")[0]
            self.faults.append(Fault(f"{at}/index", "unknown_index", detail))
            return linked
        other = _Checking(self._others[linked.index], self._others, linked.index)
        there = other._end(key, "is no key")
        part = other.tree(linked.part)
        self.faults += other.faults
        reason = mismatch(here, there) if here is not None and there is not None else ""
        if reason:
            self.faults.append(Fault(link.pointer, "not_answerable", reason))
        return Linked(linked.index, here or link, there or key, part)

    def _end(self, asked: Asked, cannot: str) -> Field | None:
        """One end of a link: the field that holds a key, or the key itself."""
        field = self._catalog.get(asked.name)
        if field is None:
            hint = '; name the key by "key"' if asked.pointer.endswith("/index") else ""
            self.faults.append(Fault(asked.pointer, "unknown_field", self._unknown(asked.name) + hint))
            return None
        reason = unlinkable(field)
        if not reason and asked.operator == "key":
            reason = self._unreadable(field)
        if not reason and not self._catalog.doubts_counted and (field.malformed or field.ignore_above is not None):
            reason = "its mapping may leave values out (ignore_above, ignore_malformed); map it without"
        if reason:
            self.faults.append(Fault(asked.pointer, "not_answerable", f"{field.name} {cannot}: {reason}"))
            return None
        return field

    def _unreadable(self, field: Field) -> str:
        if field.nested is not None:
            return f"it lies in nested documents ({field.nested}); a key is a field of the document itself"
        exact = self._catalog.get(field.exact) if field.exact is not None else field
        return "" if (exact or field).readable else "its mapping says doc_values: false; map it without"

    def _leaf(self, leaf: Leaf) -> Leaf:
        asked = leaf.field
        if isinstance(asked, Field):
            return leaf
        field = self._catalog.get(asked.name)
        if field is None:
            self._fault(asked, "field_name", "unknown_field", self._unknown(asked.name))
            return leaf
        self._nesting(asked, field)
        if asked.type not in field.types:
            field = self._catalog.sub_field(field, asked.type) or field
        if asked.type not in field.types and field.type != "other":
            right = listed(list(field.types))
            detail = f"{field.name} is a {right} field, not {asked.type}"
            self._fault(asked, "field_type", "wrong_field_type", detail)
            return leaf
        checked_leaf = replace(leaf, field=field)
        reason = self._refusal(checked_leaf, field)
        if reason:
            detail = f"{field.name} cannot answer {asked.operator} exactly: {reason}"
            self._fault(asked, "operator", "not_answerable", detail)
        return checked_leaf

    def _refusal(self, leaf: Leaf, field: Field) -> str:
        if field.refusal:
            return field.refusal
        strings = field.type in {"keyword", "text"}
        if strings and not isinstance(leaf, Exists) and field.exact is None:
            return field.exact_refusal
        if not self._catalog.doubts_counted and _doubt(leaf, field):
            if field.malformed:
                return "its mapping says ignore_malformed, so some values may not be indexed; map it without"
            limit = f"values of more than {field.ignore_above} characters are not indexed"
            return f"{limit}; a keyword (sub-)field without ignore_above would answer it"
        return ""

    def _nesting(self, asked: Asked, field: Field) -> None:
        if asked.nesting_path == field.nested:
            return
        if field.nested is None:
            detail = f'{field.name} is not in nested documents; leave "nested" and "nesting_path" out'
            self._fault(asked, "nesting_path", "wrong_nesting", detail)
        elif asked.nesting_path is None:
            detail = f'{field.name} lies in nested documents: set "nested": true and "nesting_path": "{field.nested}"'
            self._fault(asked, "nested", "wrong_nesting", detail)
        else:
            detail = f'the nesting path of {field.name} is "{field.nested}", not {shown(asked.nesting_path)}'
            self._fault(asked, "nesting_path", "wrong_nesting", detail)

    def _unknown(self, name: str) -> str:
        few = len(self.faults) < _HINTS and len(name) <= _LONGEST_WORD
        near = difflib.get_close_matches(name, list(self._catalog.by_name), n=3) if few else []
        hint = f"; did you mean {listed(near)}?" if near else ""
        return f"{self._name} has no field {shown(name)}{hint}"

    def _fault(self, asked: Asked, member: str, code: str, detail: str) -> None:
        self.faults.append(Fault(f"{asked.pointer}/{member}", code, detail))


def _levels(tree: Tree) -> tuple[Level, ...]:
    """The way down to the nested documents that a part of a Nested node speaks of."""
    match tree:
        case And(parts) | Or(parts):
            return _levels(parts[0])
        case Not(part) | Nested(part=part):
            return _levels(part)
        case Linked():
            return ()
        case _:
            return tree.field.levels if isinstance(tree.field, Field) else ()
