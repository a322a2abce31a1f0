"""Which columns a table-like file has: from the task, else from the index's configuration, else from the catalogue.

What lives here is the choice and its checks, pure data. How a column's value becomes a cell is csv_encoder.py's.
Called by registry.py, and by the API through `check_columns`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import Fault, InvalidRequestError
from tasks_service.formats.nested import every_column, exploded_path, is_subfield, options_of

MAX_COLUMNS = 10_000
AROUND_EXPLODED = "around_exploded"
"""The code of the fault of a column that is an object around the exploded list."""

_POINTER = "/target/columns"


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column of a file: its header, and the members that lead to its value from the root of a document."""

    header: str
    path: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The path without dots inside a member: documents may spell a dotted field either way."""
        return tuple(part for member in self.path for part in member.split("."))


def chosen_columns(target: dict[str, Any], catalog: Catalog, index: IndexSettings) -> tuple[FileColumn, ...]:
    """Return the columns in the order of the file.

    Raises InvalidRequestError where the catalogue (as it is now) does not have one of them.
    """
    options = options_of(target)
    wanted: Any = target.get("columns") or index.columns
    if not wanted:
        return tuple(FileColumn(column.name, column.path) for column in every_column(options, catalog))
    if faults := check_columns(wanted, catalog, exploded=exploded_path(options, catalog)):
        raise InvalidRequestError(
            "The index has not every column that is asked for: " + "; ".join(fault.detail for fault in faults),
            faults=faults,
        )
    known = known_columns(catalog)
    pairs = [_pair(one) for one in wanted]
    return tuple(FileColumn(header or field, known[field]) for field, header in pairs)


def known_columns(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Return everything a column may name, with its path: columns, other fields, and objects named whole."""
    known = {field.name: field.path for field in catalog.fields if not is_subfield(field)}
    for path in [*known.values(), *(column.path for column in catalog.columns)]:
        for depth in range(1, len(path)):
            known.setdefault(".".join(path[:depth]), path[:depth])
    known.update({column.name: column.path for column in catalog.columns})
    return known


def _pair(column: object) -> tuple[str, str | None]:
    if isinstance(column, str):
        return column, None
    members = cast("dict[str, Any]", column)
    return members["field"], members.get("header")


def check_columns(columns: Sequence[Any], catalog: Catalog, *, exploded: tuple[str, ...] | None = None) -> list[Fault]:
    """Return what is wrong with a target's `columns`, each fault with its pointer under /target/columns.

    `exploded` is the path of the list whose elements have a row each.
    """
    if not columns:
        return [Fault(_POINTER, "empty", "Name at least one column, or leave `columns` out for every field.")]
    if len(columns) > MAX_COLUMNS:
        return [Fault(_POINTER, "too_many", f"Name at most {MAX_COLUMNS} columns.")]
    known = known_columns(catalog)
    faults: list[Fault] = []
    headers: dict[str, int] = {}
    for position, column in enumerate(columns):
        fault = (
            _shape_fault(column, position)
            or _name_fault(column, position, known, headers)
            or _around_fault(column, position, known, exploded or ())
        )
        if fault is not None:
            faults.append(fault)
    return faults


def _shape_fault(column: object, position: int) -> Fault | None:
    pointer = f"{_POINTER}/{position}"
    if isinstance(column, str):
        return None
    if not isinstance(column, dict):
        return Fault(pointer, "wrong_type", 'A column is a field\'s name or {"field": ..., "header": ...}.')
    members = cast("dict[str, Any]", column)
    for name in members:
        if name not in {"field", "header"}:
            return Fault(f"{pointer}/{name}", "unknown_member", "A column has the members `field` and `header`.")
    if not isinstance(members.get("field"), str):
        return Fault(f"{pointer}/field", "required", 'Name the column\'s field, e.g. "name".')
    header = members.get("header")
    if header is not None and (not isinstance(header, str) or not header):
        return Fault(f"{pointer}/header", "wrong_type", "A header is a text of at least one character.")
    return None


def _name_fault(
    column: object, position: int, known: dict[str, tuple[str, ...]], headers: dict[str, int]
) -> Fault | None:
    field, header = _pair(column)
    pointer = f"{_POINTER}/{position}" if isinstance(column, str) else f"{_POINTER}/{position}/field"
    if field not in known:
        return Fault(pointer, "unknown_field", f"There is no field {field!r}; {_nearest(field, known)}.")
    first = headers.setdefault(header or field, position)
    if first != position:
        return Fault(
            f"{_POINTER}/{position}",
            "duplicate",
            f"Column {first} has the header {header or field!r} already; give one of them another `header`.",
        )
    return None


def _around_fault(
    column: object, position: int, known: dict[str, tuple[str, ...]], exploded: tuple[str, ...]
) -> Fault | None:
    """A list of which every row has an element is not in every row as a whole, too."""
    field, _ = _pair(column)
    path = known[field]
    if len(path) >= len(exploded) or exploded[: len(path)] != path:
        return None
    detail = f"The object `{field}` holds the list that is exploded, `{'.'.join(exploded)}`; name its fields instead."
    return Fault(f"{_POINTER}/{position}", AROUND_EXPLODED, detail)


def _nearest(field: str, known: dict[str, tuple[str, ...]]) -> str:
    parent = field.rpartition(".")[0]
    near = [parent] if parent in known else difflib.get_close_matches(field, list(known), n=1, cutoff=0.6)
    if near:
        return f"the nearest is {near[0]!r}"
    return "the fields of the index are listed by GET /export_indices/{name}"
