"""The order of rows: fields to sort by, judged against a catalogue, and how each engine is asked for that order.

One meaning in every engine: text by code points, false before true, documents without a value last whichever way the
order goes, a list by its smallest value upward and by its largest downward; values as the index stores them. Rows that
are equal in every field stand as their source holds them, which the engines do not do alike. Called by the sources, and
by the API through ``read_sort``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from segments.catalog import Catalog
from segments.errors import Fault, SegmentError, escaped, shown
from segments.fields import Field
from segments.to_sql import sort_value

MOST_KEYS = 10
_ORDERS = ("asc", "desc")
_SORTED = frozenset({"keyword", "number", "date", "boolean"})
_STANDS_FOR_NOTHING = frozenset({"integer", "long", "date_nanos"})
"""Elasticsearch sorts documents without a value as the extreme value of these, which a document may hold too."""


@dataclass(frozen=True, slots=True)
class SortKey:
    """A field that rows are sorted by."""

    field: Field
    descending: bool = False


def unsortable(field: Field, catalog: Catalog) -> str:
    """Why rows cannot be sorted by a field, with what would help; empty where they can."""
    if field.nested is not None:
        return f"it lies in nested documents ({field.nested}), of which a row may have many"
    if field.refusal:
        return field.refusal
    if not _SORTED & set(field.types) or (field.type in {"keyword", "text"} and field.exact is None):
        return field.exact_refusal or f"it is of the type {field.type}"
    exact = catalog.get(field.exact) if field.exact is not None else None
    return "" if (exact or field).readable else "its mapping says doc_values: false; map it without"


def read_sort(raw: object, catalog: Catalog) -> tuple[SortKey, ...]:
    """Fields by name or ``{"field", "order"}``, the most important first, as keys.

    Raises:
        SegmentError: everything that is wrong with it, with pointers from the list.
    """
    if not isinstance(raw, list):
        raise SegmentError([Fault("", "wrong_type", 'Give a list of fields, e.g. ["name"].')])
    wanted = cast("list[object]", raw)
    if not 1 <= len(wanted) <= MOST_KEYS:
        detail = f"Name between 1 and {MOST_KEYS} fields to sort by, or leave `sort` out for rows in any order."
        raise SegmentError([Fault("", "empty" if not wanted else "too_many", detail)])
    keys: dict[str, SortKey] = {}
    faults: list[Fault] = []
    for position, one in enumerate(wanted):
        found = _shape_faults(one, f"/{position}")
        if not found:
            found = _add(keys, one, f"/{position}", catalog)
        faults += found
    if faults:
        raise SegmentError(faults)
    return tuple(keys.values())


def _shape_faults(one: object, pointer: str) -> list[Fault]:
    if isinstance(one, str):
        return []
    if not isinstance(one, dict):
        return [Fault(pointer, "wrong_type", 'A field is its name or {"field": ..., "order": "asc" or "desc"}.')]
    members = cast("dict[str, object]", one)
    faults = [
        Fault(f"{pointer}/{escaped(name)}", "unknown_member", "A field to sort by has the members `field` and `order`.")
        for name in members
        if name not in {"field", "order"}
    ]
    if not isinstance(members.get("field"), str):
        faults.append(Fault(f"{pointer}/field", "required", 'Name the field, e.g. "name".'))
    if members.get("order", "asc") not in _ORDERS:
        detail = f"The order is asc or desc, not {shown(members['order'])}."
        faults.append(Fault(f"{pointer}/order", "unknown_order", detail))
    return faults


def _add(keys: dict[str, SortKey], one: object, pointer: str, catalog: Catalog) -> list[Fault]:
    """Add a key; what is wrong with it otherwise."""
    if isinstance(one, str):
        name, descending = one, False
    else:
        members, pointer = cast("dict[str, str]", one), f"{pointer}/field"
        name, descending = members["field"], members.get("order") == "desc"
    field = catalog.get(name)
    if field is None:
        near = difflib.get_close_matches(name, list(catalog.by_name), n=1)
        hint = f"the nearest is {near[0]}" if near else "GET /export_indices/{name} lists the fields of the index"
        return [Fault(pointer, "unknown_field", f"There is no field {shown(name)}; {hint}.")]
    if reason := unsortable(field, catalog):
        return [Fault(pointer, "not_sortable", f"Rows cannot be sorted by {name}: {reason}.")]
    if name in keys:
        return [Fault(pointer, "duplicate", f"Rows are sorted by {name} already; name each field once.")]
    keys[name] = SortKey(field, descending)
    return []


def sort_clauses(keys: Sequence[SortKey]) -> list[tuple[dict[str, Any], bool]]:
    """The clauses of Elasticsearch's ``sort``, each with whether its values descend; sort values come one a clause."""
    clauses: list[tuple[dict[str, Any], bool]] = []
    for key in keys:
        clauses.append((_clause(key, descending=key.descending), key.descending))
        if key.field.storage in _STANDS_FOR_NOTHING:
            # Among what stands at the end, the other way round: what has the extreme value comes before what has none.
            clauses.append((_clause(key, descending=not key.descending), not key.descending))
    return clauses


def _clause(key: SortKey, *, descending: bool) -> dict[str, Any]:
    field = key.field
    clause: dict[str, Any] = {
        "order": "desc" if descending else "asc",
        "missing": "_last",
        "mode": "max" if key.descending else "min",
        # An index behind an alias may lack the field.
        "unmapped_type": "keyword" if field.exact is not None else field.storage,
    }
    if field.storage == "half_float":
        clause["numeric_type"] = "double"  # the server cannot go on after a half_float
    return {field.exact or field.query_name: clause}


def sort_sql(keys: Sequence[SortKey]) -> str:
    """An expression whose values stand in the order of the rows. Identifiers come from the catalogue and are quoted."""
    terms = [
        f"{sort_value(key.field, largest=key.descending)}, '{'DESC' if key.descending else 'ASC'} NULLS LAST'"
        for key in keys
    ]
    return f"create_sort_key({', '.join(terms)})"
