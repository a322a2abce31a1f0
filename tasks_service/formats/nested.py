"""What becomes of nested lists in files of rows: a JSON cell, a list a field, or a row for each element of one of them.

What lives here is the choice, from `target.options`, and its checks, pure data; rows for elements are made by
explode.py. Called by columns.py and registry.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, cast

from segments import Catalog
from segments.catalog import Column
from segments.fields import Field
from tasks_service.errors import Fault

NESTED_OPTIONS: Final = ("nested", "explode")
_KINDS = ("json", "flatten", "explode")
_POINTER = "/target/options"


def options_of(target: Mapping[str, Any]) -> dict[str, Any]:
    """Return a target's options; none where it has none."""
    return target.get("options") or {}


def nested_option_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with these options by themselves, each fault with its pointer under /target/options."""
    kind, path = options.get("nested", "json"), options.get("explode")
    if kind not in _KINDS:
        return [Fault(f"{_POINTER}/nested", "invalid_option", f"nested is one of {', '.join(_KINDS)}.")]
    if path is None:
        return []
    if not isinstance(path, str):
        detail = 'explode is the name of exactly one nested list, e.g. "items": a row is an element of one list.'
        return [Fault(f"{_POINTER}/explode", "invalid_option", detail)]
    if kind != "explode":
        return [Fault(f"{_POINTER}/explode", "clash", 'explode goes with `"nested": "explode"`.')]
    return []


def explosion_faults(options: Mapping[str, Any], catalog: Catalog) -> list[Fault]:
    """Return what is wrong with the list that sound options explode, by the catalogue."""
    if options.get("nested") != "explode":
        return []
    lists = _lists(catalog)
    if not lists:
        detail = "The index has no nested list whose elements could have rows; leave `nested` out."
        return [Fault(f"{_POINTER}/nested", "no_nested_list", detail)]
    path = cast("str | None", options.get("explode"))
    if path is None and len(lists) > 1:
        detail = f"The index has several nested lists: name one of {', '.join(lists)}."
        return [Fault(f"{_POINTER}/explode", "required", detail)]
    if path is None or path in lists:
        return []
    outer = next((name for name in lists if path.startswith(f"{name}.")), None)
    if outer is not None:
        detail = f"`{path}` lies inside the nested list `{outer}`; explode that one, whose elements have a row each."
    else:
        nearest = difflib.get_close_matches(path, list(lists), n=1, cutoff=0.6)
        hint = f"the nearest is `{nearest[0]}`" if nearest else f"there are {', '.join(lists)}"
        detail = f"There is no nested list `{path}`; {hint}."
    return [Fault(f"{_POINTER}/explode", "unknown_field", detail)]


def exploded_path(options: Mapping[str, Any], catalog: Catalog) -> tuple[str, ...] | None:
    """Return the path of the list whose elements have rows, by options without a fault; None where none has."""
    if options.get("nested") != "explode":
        return None
    lists = _lists(catalog)
    name = options.get("explode")
    return lists[name] if name is not None else next(iter(lists.values()))


def every_column(options: Mapping[str, Any], catalog: Catalog) -> list[Column]:
    """Return the columns where none are named: the catalogue's, with nested lists as sound options want them."""
    if options.get("nested", "json") == "json":
        return list(catalog.columns)
    exploded = exploded_path(options, catalog)
    opened = set(_lists(catalog).values()) if exploded is None else {exploded}
    columns: dict[str, Column] = {}
    for column in catalog.columns:
        inside = _inside(column.path, catalog, whole=exploded is not None) if column.path in opened else []
        columns.update((one.name, one) for one in inside or [column])
    return sorted(columns.values(), key=lambda one: (one.name, one.path))


def _lists(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Return the nested lists that lie in no other, by name."""
    paths = sorted({field.levels[0].keys for field in catalog.fields if field.levels})
    return {".".join(path): path for path in paths}


def _inside(path: tuple[str, ...], catalog: Catalog, *, whole: bool) -> list[Column]:
    """Return a column for each field of a list's elements; lists inside them are `whole`, or fields themselves."""
    fields = [one for one in catalog.fields if one.path[: len(path)] == path and one.levels and not is_subfield(one)]
    return [_column(one, whole=whole) for one in fields]


def _column(field: Field, *, whole: bool) -> Column:
    if whole and len(field.levels) > 1:
        path = field.levels[0].keys + field.levels[1].keys
        return Column(".".join(path), path)
    return Column(field.name, field.path)


def is_subfield(field: Field) -> bool:
    """Multi-fields and aliases of a mapping are in the index, not in the documents."""
    return field.name != ".".join(field.path)
