"""A checked tree as a boolean DuckDB expression: TRUE or FALSE for every row, never NULL.

Identifiers come from the catalogue and are quoted; every value a caller wrote is a parameter. The expression
stands in the WHERE of a relation with one typed column per top-level field; lists and lists of structs are
searched with lambdas. Called by the file source and by previews; DuckDB itself is never imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from segments.fields import Field
from segments.numbers import Interval, intervals
from segments.packing import packs, pattern
from segments.times import AFTER_LAST, FIRST
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
    Text,
    Tree,
    checked,
)

_SOME = 50  # from here on a list of values is one parameter, looked up by hash
_TEXT = frozenset({"UUID", "ENUM"})
_NANO = 1_000_000  # nanoseconds of a millisecond
_NANOSECONDS = (-(2**63) // _NANO, 2**63 // _NANO + 1)  # milliseconds a TIMESTAMP_NS lies between
_HUGE = "170141183460469231731687303715884105728::DOUBLE"  # 2^127
_ISO = (
    "([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,9}))?"
    "(?:Z|([+-])([0-9]{2}):?([0-9]{2})?)?)?"
)


def to_sql(tree: Tree) -> tuple[str, list[Any]]:
    """The expression and its parameters, in the order of its question marks.

    A linked group reads the relation that has the name of its index; the filter of the chain, there as here, is the
    caller's to put into the tree.
    """
    compiler = _Compiler()
    return compiler.tree(tree, ""), compiler.parameters


def quoted(identifier: str) -> str:
    """A quoted DuckDB identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def sort_value(field: Field, *, largest: bool) -> str:
    """The value that stands for a row in an order: of a list its largest or smallest one; NULL where it has none."""
    where = _path("", field.keys)
    if not field.lists:
        return _sorted(field, where)
    values = f"list_transform({_flattened(where, field.lists)}, lambda element: {_sorted(field, 'element')})"
    return f"list_{'max' if largest else 'min'}({values})"


def _sorted(field: Field, value: str) -> str:
    if field.type == "date":
        return _instant(field, value)[0]
    if field.storage in {"float", "double"}:
        # Documents have no word for NaN and infinities; Elasticsearch has -0.0 before 0.0, DuckDB takes them for equal.
        signed = f"{{'value': {value}, 'positive': NOT signbit({value})}}"
        return f"(CASE WHEN isfinite({value}) THEN {signed} END)"
    return _text(field, value)


class _Compiler:
    def __init__(self) -> None:
        self.parameters: list[Any] = []
        self._lambdas = 0

    def tree(self, tree: Tree, child: str) -> str:
        """The expression; ``child`` is the nested document it speaks of, empty at the root."""
        match tree:
            case And(parts):
                return _joined([self.tree(part, child) for part in parts], "AND", "TRUE")
            case Or(parts):
                return _joined([self.tree(part, child) for part in parts], "OR", "FALSE")
            case Not(part):
                return f"NOT {self.tree(part, child)}"
            case Nested(part=part, levels=levels):
                children = ""
                for level in levels:
                    children = self._children(children, level.keys, level.lists)
                return self._some(children, lambda variable: self.tree(part, variable))
            case Linked():
                return self._linked(tree)
            case _:
                return self._leaf(tree, checked(tree.field), child)

    def _linked(self, linked: Linked) -> str:
        """A semi-join: a column that may hold the key is looked up by hash, a list of them value by value."""
        link, key = checked(linked.link), checked(linked.key)
        exact = _common(link, key)
        values = self._values(link)
        if values is None:
            where = exact(_path("", link.keys), link)
            return f"({where} IS NOT NULL AND {where} IN {self._keys(linked, exact)})"
        value = self._variable()
        within = f"FROM (SELECT unnest({values}) AS {value}) WHERE {exact(value, link)} IN {self._keys(linked, exact)}"
        return f"EXISTS (SELECT 1 {within})"

    def _keys(self, linked: Linked, exact: Callable[[str, Field], str]) -> str:
        """The subquery of all keys, none of them NULL."""
        key, values = checked(linked.key), self._values(checked(linked.key))
        where = _path("", key.keys) if values is None else f"unnest({values})"
        held = self._variable()
        chosen = f"(SELECT {where} AS {held} FROM {quoted(linked.index)} WHERE {self.tree(linked.part, '')})"  # noqa: S608
        value = exact(held, key)
        # Documents have no word for NaN and infinities: no key is one.
        finite = f" AND isfinite({held})" if key.storage == "double" and value == held else ""
        return f"(SELECT {value} FROM {chosen} WHERE {value} IS NOT NULL{finite})"  # noqa: S608

    def _values(self, field: Field) -> str | None:
        """The list of all values of a field, inside nested documents too; None where it is a single column."""
        if not field.levels:
            return _flattened(_path("", field.keys), field.lists) if field.lists else None
        children = ""
        for level in field.levels:
            children = self._children(children, level.keys, level.lists)
        variable = self._variable()
        values = f"list_transform({children}, lambda {variable}: {_path(variable, field.keys)})"
        return _flattened(values, field.lists + 1)

    def _children(self, outer: str, keys: tuple[str, ...], lists: int) -> str:
        """The list of all child documents one level down."""
        if outer:
            variable = self._variable()
            inner = _path(variable, keys)
            outer = f"list_transform({outer}, lambda {variable}: {inner if lists else f'[{inner}]'})"
            lists = max(lists, 1) + 1
        else:
            inner = _path("", keys)
            outer = inner if lists else f"[{inner}]"
        return _flattened(outer, max(lists, 1))

    def _leaf(self, leaf: Leaf, field: Field, child: str) -> str:
        if not field.column_type:
            raise TypeError(f"{field.name} is a field of a mapping, not a column")
        where = _path(child, field.keys)
        if not field.lists:
            holds = self._holds(leaf, field, where, inside=bool(child))
            if isinstance(leaf, Exists):
                return holds
            if field.type == "date" and field.column_type == "VARCHAR":
                return f"coalesce({holds}, FALSE)"
            # Two plain conditions, which DuckDB hands down to the scan as filters; coalesce it would not.
            return f"({where} IS NOT NULL AND {holds})"
        values = _flattened(where, field.lists)
        return self._some(values, lambda variable: self._holds(leaf, field, variable, inside=True))

    def _some(self, values: str, holds: Callable[[str], str]) -> str:
        """Whether some element of a list holds; a list that is NULL has none."""
        variable = self._variable()
        return f"coalesce(len(list_filter({values}, lambda {variable}: {holds(variable)})) > 0, FALSE)"

    def _variable(self) -> str:
        self._lambdas += 1
        return f"element_{self._lambdas}"

    def _holds(self, leaf: Leaf, field: Field, value: str, *, inside: bool) -> str:
        """Whether one value holds; may be NULL. ``inside`` a lambda there are no subqueries."""
        if isinstance(leaf, Range) or (field.type == "number" and isinstance(leaf, Compare | OneOf)):
            return self._numbers(field, value, intervals(leaf, field.storage), inside=inside)
        match leaf:
            case Exists():
                return f"{value} IS NOT NULL"
            case Period(start=start, end=end):
                return self._period(field, value, start, end)
            case Text(placing=placing, needles=needles):
                text = _text(field, value)
                matches = [self._matches(text, placing, pack) for pack in packs(needles)]
                return _joined(matches, "OR", "FALSE")
            case Compare(value=wanted):
                return f"{_text(field, value)} = {self._parameter(wanted)}"
            case OneOf(values=wanted):
                return self._among(_text(field, value), list(dict.fromkeys(wanted)), "VARCHAR", inside=inside)

    def _parameter(self, value: object) -> str:
        self.parameters.append(value)
        return "?"

    def _among(self, value: str, wanted: list[Any], printed: str, *, inside: bool) -> str:
        if len(wanted) <= _SOME:
            return f"{value} IN ({', '.join([self._parameter(one) for one in wanted])})"
        listed = f"CAST({self._parameter(wanted)} AS {printed}[])"
        return f"list_contains({listed}, {value})" if inside else f"{value} IN (SELECT unnest({listed}))"

    def _matches(self, text: str, placing: str, pack: list[str]) -> str:
        before = r"\A" if placing == "starts_with" else ""
        after = r"\z" if placing == "ends_with" else ""
        return f"regexp_matches({text}, {self._parameter(before + pattern(pack, _escaped) + after)})"

    def _numbers(self, field: Field, value: str, found: list[Interval], *, inside: bool) -> str:
        points = [one.low for one in found if one.low is not None and one.low == one.high]
        spans = [self._span(field, value, one) for one in found if one.low is None or one.low != one.high]
        if len(points) > _SOME:
            wanted = [str(point) if isinstance(point, Decimal) else point for point in dict.fromkeys(points)]
            spans.append(self._among(value, wanted, field.column_type, inside=inside))
        elif len(points) == 1:
            spans.append(f"{value} = {self._number(field, points[0])}")
        elif points:
            spans.append(f"{value} IN ({', '.join([self._number(field, point) for point in points])})")
        return _joined(spans, "OR", "FALSE")

    def _number(self, field: Field, number: float | Decimal) -> str:
        if isinstance(number, Decimal):
            return f"CAST({self._parameter(str(number))} AS {field.column_type})"
        return f"CAST({self._parameter(number)} AS {field.column_type})"

    def _span(self, field: Field, value: str, interval: Interval) -> str:
        sides: list[str] = []
        if interval.low is not None:
            sides.append(f"{value} >= {self._number(field, interval.low)}")
        if interval.high is not None:
            sides.append(f"{value} <= {self._number(field, interval.high)}")
        return _joined(sides, "AND", f"{value} IS NOT NULL")

    def _period(self, field: Field, value: str, start: int | None, end: int | None) -> str:
        instant, factor = _instant(field, value)
        first, after = (FIRST, AFTER_LAST) if factor < _NANO else _NANOSECONDS
        if (start is not None and start >= after) or (end is not None and end <= first):
            return "FALSE"
        sides: list[str] = []
        if start is not None and start > first:
            sides.append(f"{instant} >= {self._bound(field, start * factor)}")
        if end is not None and end < after:
            sides.append(f"{instant} < {self._bound(field, end * factor)}")
        return _joined(sides, "AND", f"{instant} IS NOT NULL")

    def _bound(self, field: Field, instant: int) -> str:
        # A bare TIMESTAMP column is compared as it is, so that row groups can be skipped by their statistics.
        where = self._parameter(instant)
        return f"make_timestamp({where})" if field.column_type == "TIMESTAMP" else where


def _instant(field: Field, value: str) -> tuple[str, int]:
    """A date as something ordered, and how many of its units make a millisecond."""
    match field.column_type:
        case "TIMESTAMP":
            return value, 1000
        case "TIMESTAMP_NS":
            return f"epoch_ns({value})", _NANO
        case "TIMESTAMP WITH TIME ZONE":
            return f"epoch_us({value})", 1000
        case "BIGINT":
            return value, 1
        case "VARCHAR":
            return _spelt(value), 1000
        case _:
            return f"epoch_us(CAST({value} AS TIMESTAMP))", 1000


def _spelt(value: str) -> str:
    """Microseconds of an ISO 8601 string; without offset it is UTC. NULL for what is none."""

    def group(number: int) -> str:
        return f"regexp_extract({value}, '{_ISO}', {number})"

    clock = f"coalesce(nullif({group(2)}, ''), '00:00')"
    base = f"epoch_us(TRY_CAST({group(1)} || ' ' || {clock} AS TIMESTAMP))"
    fraction = f"CAST(left(rpad({group(3)}, 6, '0'), 6) AS BIGINT)"
    minutes = f"(60 * CAST('0' || {group(5)} AS BIGINT) + CAST('0' || {group(6)} AS BIGINT))"
    sign = f"(CASE WHEN {group(4)} = '-' THEN 60000000 ELSE -60000000 END)"
    return f"(CASE WHEN regexp_full_match({value}, '{_ISO}') THEN {base} + {fraction} + {sign} * {minutes} END)"


def _common(link: Field, key: Field) -> Callable[[str, Field], str]:
    """What makes values of the two fields comparable, exactly: of a whole number and a double, a whole number."""
    doubles = {link.storage, key.storage} & {"double"}
    mixed = bool(doubles) and link.storage != key.storage

    def exact(value: str, field: Field) -> str:
        if not mixed:
            return _text(field, value)
        if field.storage != "double":
            return f"CAST({value} AS HUGEINT)"
        whole = f"isfinite({value}) AND trunc({value}) = {value} AND abs({value}) < {_HUGE}"
        return f"CASE WHEN {whole} THEN CAST({value} AS HUGEINT) END"

    return exact


def _path(child: str, keys: tuple[str, ...]) -> str:
    """A column, or a member of one; struct members are named by a literal, never by dotted syntax."""
    where, rest = (child, keys) if child else (quoted(keys[0]), keys[1:])
    for key in rest:
        where = f"struct_extract({where}, '{key.replace(chr(39), chr(39) * 2)}')"
    return where


def _flattened(values: str, lists: int) -> str:
    for _ in range(lists - 1):
        values = f"flatten({values})"
    return values


def _text(field: Field, value: str) -> str:
    return f"CAST({value} AS VARCHAR)" if field.column_type in _TEXT else value


def _escaped(character: str) -> str:
    if character == "\0":
        return r"\x00"
    return (
        "\\" + character if character.isascii() and not character.isalnum() and character.isprintable() else character
    )


def _joined(parts: list[str], word: str, empty: str) -> str:
    if len(parts) > 1:
        return f"({f' {word} '.join(parts)})"
    return parts[0] if parts else empty
