"""A checked tree as an Elasticsearch query: filter context only, no scripts, nothing left to the server.

Every value is a scalar of the right type in a leaf of our making; field names come from the catalogue;
dates are absolute bounds with an explicit format; substrings are regular expressions of escaped literals with
one class of alike characters per position, which is exact where ``case_insensitive`` folds ASCII only.
Called by the Elasticsearch source and by previews.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from segments.check import doubtful
from segments.fields import Field
from segments.numbers import INTEGERS, Interval, intervals
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
    Scalar,
    Text,
    Tree,
    checked,
)

Query: TypeAlias = dict[str, Any]

DATE_FORMAT = "strict_date_optional_time"
_LONGEST_TERM = 32_766  # bytes of UTF-8
_MOST_TERMS = 65_536  # index.max_terms_count
_NOTHING: Query = {"match_none": {}}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPECIAL = frozenset(".?+*|{}[]()\"\\#@&<>~^$-/=!,:'%;`_")
# What date_nanos can hold: 1970 to 2262.
_NANOS_FIRST, _NANOS_AFTER_LAST = 0, 2**63 // 1_000_000 + 1


def to_elasticsearch(tree: Tree, linked: Callable[[Linked], Query] | None = None) -> Query:
    """The ``query`` member of a search for the documents the tree selects.

    One query asks one index: the keys of linked groups are to be put in their place first (``with_keys``), or
    ``linked`` says what stands for such a group.

    Raises:
        TypeError: the tree is unchecked, or has a linked group that nothing stands for.
    """
    whole = _all(tree, linked)
    return {"bool": {"filter": [{"match_all": {}}], **whole}}


def doubts(tree: Tree) -> Query | None:
    """A query for the documents that ``to_elasticsearch(tree)`` cannot judge; None when there can be none.

    Elasticsearch does not index values over ``ignore_above`` or of the wrong type under ``ignore_malformed``.
    A tree's query is exact if no document of the chain, on the same snapshot, matches this one.
    """
    names = doubtful(tree)
    return {"bool": {"filter": [{"terms": {"_ignored": list(names)}}]}} if names else None


def _query(tree: Tree, linked: Callable[[Linked], Query] | None) -> Query:
    match tree:
        case And(parts):
            return {"bool": _all(tree, linked)} if parts else {"match_all": {}}
        case Or(parts):
            return _any([_query(part, linked) for part in parts])
        case Not():
            return {"bool": _all(tree, linked)}
        case Nested(path, part):
            # Score mode none: nothing here is ranked. An index behind an alias may lack the path.
            return {
                "nested": {"path": path, "query": _query(part, linked), "score_mode": "none", "ignore_unmapped": True}
            }
        case Linked(index=index):
            if linked is None:
                raise TypeError(f"one query asks one index: put the keys of {index} in the group's place first")
            return linked(tree)
        case _:
            return _leaf(tree, checked(tree.field))


def _all(tree: Tree, linked: Callable[[Linked], Query] | None) -> Query:
    """The members of one bool query: what must hold and what must not, however deeply they are joined by "all".

    Exclusions of their own each start from all documents of the index, which costs; beside others they do not.
    """
    filters: list[Query] = []
    exclusions: list[Query] = []
    left = [tree]
    while left:
        match left.pop():
            case And(parts):
                left.extend(reversed(parts))
            case Not(Or(parts)):
                exclusions.extend([_query(part, linked) for part in parts])
            case Not(part):
                exclusions.append(_query(part, linked))
            case part:
                filters.append(_query(part, linked))
    return ({"filter": filters} if filters else {}) | ({"must_not": exclusions} if exclusions else {})


def _any(queries: list[Query]) -> Query:
    if len(queries) == 1:
        return queries[0]
    return {"bool": {"should": queries, "minimum_should_match": 1}} if queries else _NOTHING


def _leaf(leaf: Leaf, field: Field) -> Query:
    if isinstance(leaf, Range) or (field.type == "number" and isinstance(leaf, Compare | OneOf)):
        return _numbers(field, intervals(leaf, field.storage))
    match leaf:
        case Exists():
            return _exists(field)
        case Period(start=start, end=end):
            return _period(field, start, end)
        case Text(placing=placing, needles=needles):
            return _any([_regexp(field, placing, pack) for pack in packs(needles)])
        case Compare(value=value):
            return _equal(field, (value,))
        case OneOf(values=values):
            return _equal(field, values)


def _equal(field: Field, values: tuple[Scalar, ...]) -> Query:
    """Strings and booleans by term. No indexed value is longer than the longest term; asking is an error."""
    lawful = [value for value in dict.fromkeys(values) if not isinstance(value, str) or _fits(value)]
    if len(lawful) == 1:
        return {"term": {_exact(field): {"value": lawful[0]}}}
    return _terms(_exact(field), lawful)


def _terms(name: str, values: list[Any]) -> Query:
    """Some value is one of these, in as few clauses as the server takes."""
    batches = [values[first : first + _MOST_TERMS] for first in range(0, len(values), _MOST_TERMS)]
    return _any([{"terms": {name: batch}} for batch in batches])


def _fits(value: str) -> bool:
    return len(value) * 4 <= _LONGEST_TERM or len(value.encode()) <= _LONGEST_TERM


def _exact(field: Field) -> str:
    return field.exact or field.query_name


def _exists(field: Field) -> Query:
    exists: Query = {"exists": {"field": field.query_name}}
    if field.storage == "keyword" and field.ignore_above is not None and field.nested is None:
        # A value over ignore_above is a value all the same; Elasticsearch remembers that it ignored one.
        return _any([exists, {"term": {"_ignored": {"value": field.query_name}}}])
    return exists


def _period(field: Field, start: int | None, end: int | None) -> Query:
    first, after = (_NANOS_FIRST, _NANOS_AFTER_LAST) if field.storage == "date_nanos" else (FIRST, AFTER_LAST)
    if (start is not None and start >= after) or (end is not None and end <= first):
        return _NOTHING
    if start is not None and end is not None and start >= end:
        return _NOTHING
    sides: Query = {}
    if start is not None and start > first:
        sides["gte"] = _iso(start)
    if end is not None and end < after:
        sides["lt"] = _iso(end)
    if not sides:
        return {"exists": {"field": field.query_name}}
    return {"range": {field.query_name: {**sides, "format": DATE_FORMAT}}}


def _iso(instant: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=instant)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _numbers(field: Field, found: list[Interval]) -> Query:
    """Single integers by term, everything else by a closed range."""
    points = [one.low for one in found if one.low is not None and one.low == one.high and one.low != 0]
    queries = [_span(field, one) for one in found if one.low is None or one.low != one.high or one.low == 0]
    name = field.query_name
    if len(points) == 1:
        queries.insert(0, {"term": {name: {"value": _json(points[0])}}})
    elif points:
        queries.insert(0, _terms(name, [_json(point) for point in dict.fromkeys(points)]))
    return _any(queries)


def _span(field: Field, interval: Interval) -> Query:
    if interval.low is None and interval.high is None:
        return {"exists": {"field": field.query_name}}
    whole = field.storage in INTEGERS
    sides: Query = {}
    if interval.low is not None:
        # Elasticsearch sorts -0.0 below 0.0, rules hold them equal: a zero bound takes both in.
        sides["gte"] = -0.0 if interval.low == 0 and not whole else _json(interval.low)
    if interval.high is not None:
        sides["lte"] = 0.0 if interval.high == 0 and not whole else _json(interval.high)
    return {"range": {field.query_name: sides}}


def _json(number: float | Decimal) -> int | float:
    return float(number) if isinstance(number, Decimal) else number


def _regexp(field: Field, placing: str, pack: list[str]) -> Query:
    before = "" if placing == "starts_with" else ".*"
    after = "" if placing == "ends_with" else ".*"
    value = before + pattern(pack, _escaped) + after
    return {"regexp": {_exact(field): {"value": value, "flags": "NONE"}}}


def _escaped(character: str) -> str:
    return "\\" + character if character in _SPECIAL else character
