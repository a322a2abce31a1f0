"""What is wrong with the columns a task asks for: every fault at once, each with what would be right.

What lives here is the judging of `target.columns` by the catalogue; what becomes of sound ones is columns.py's. Called
by columns.py and registry.py, and by `tasks-service doctor` for the columns of the configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

from segments import Catalog
from tasks_service.errors import Fault
from tasks_service.formats.file_columns import Path, TemplateError, template_pieces
from tasks_service.formats.nested import is_subfield

MAX_COLUMNS = 10_000
MAX_COMPOSED = 100
"""Columns that are no fields, and fields in one template, at most: each is planned anew for every chunk."""

AROUND_EXPLODED = "around_exploded"
"""The code of the fault of a column that is an object around the exploded list."""

_POINTER = "/target/columns"
_KINDS = ("field", "constant", "template")
_SHAPE = (
    'A column is a field\'s name, {"field": ..., "header": ...}, {"constant": ..., "header": ...} or '
    '{"template": "{field} and {field}", "header": ...}.'
)


def known_columns(catalog: Catalog) -> dict[str, Path]:
    """Return everything a column may name, with its path: columns, other fields, and objects named whole."""
    known = {field.name: field.path for field in catalog.fields if not is_subfield(field)}
    for path in [*known.values(), *(column.path for column in catalog.columns)]:
        for depth in range(1, len(path)):
            known.setdefault(".".join(path[:depth]), path[:depth])
    known.update({column.name: column.path for column in catalog.columns})
    return known


def check_columns(columns: Sequence[Any], catalog: Catalog, *, exploded: Path | None = None) -> list[Fault]:
    """Return what is wrong with a target's `columns`, each fault with its pointer under /target/columns.

    `exploded` is the path of the list whose elements have a row each.
    """
    if not columns:
        return [Fault(_POINTER, "empty", "Name at least one column, or leave `columns` out for every field.")]
    if len(columns) > MAX_COLUMNS:
        return [Fault(_POINTER, "too_many", f"Name at most {MAX_COLUMNS} columns.")]
    composed = sum(isinstance(one, dict) and "field" not in one for one in columns)
    if composed > MAX_COMPOSED:
        return [Fault(_POINTER, "too_many", f"At most {MAX_COMPOSED} columns may be constants or templates.")]
    judge = _Judge(known_columns(catalog), exploded or ())
    return [fault for position, column in enumerate(columns) for fault in judge.faults(column, position)]


class _Judge:
    """Judges one column after the other; headers may not be given twice."""

    def __init__(self, known: dict[str, Path], exploded: Path) -> None:
        self._known = known
        self._exploded = exploded
        self._headers: dict[str, int] = {}

    def faults(self, column: object, position: int) -> list[Fault]:
        pointer = f"{_POINTER}/{position}"
        if isinstance(column, str):
            return self._field_faults(column, pointer) or self._header_faults(column, position)
        if not isinstance(column, dict):
            return [Fault(pointer, "wrong_type", _SHAPE)]
        members = cast("dict[str, Any]", column)
        faults = _shape_faults(members, pointer)
        template, field = members.get("template"), members.get("field")
        if isinstance(template, str):
            faults += self._template_faults(template, f"{pointer}/template")
        if isinstance(field, str):
            faults += self._field_faults(field, f"{pointer}/field")
        return faults or self._header_faults(members.get("header") or members["field"], position)

    def _field_faults(self, name: str, pointer: str) -> list[Fault]:
        if name not in self._known:
            return [Fault(pointer, "unknown_field", f"There is no field {name!r}; {_nearest(name, self._known)}.")]
        path, exploded = self._known[name], self._exploded
        if len(path) < len(exploded) and exploded[: len(path)] == path:
            # A list of which every row has an element is not in every row as a whole, too.
            detail = f"The object `{name}` holds the list that is exploded, `{'.'.join(exploded)}`; name its fields."
            return [Fault(pointer, AROUND_EXPLODED, detail)]
        return []

    def _template_faults(self, template: str, pointer: str) -> list[Fault]:
        try:
            names = [text for is_field, text in template_pieces(template) if is_field]
        except TemplateError as error:
            detail = f"This is not a template, such as `{{first_name}} {{last_name}}`: {error}."
            return [Fault(pointer, "invalid_template", detail)]
        if len(names) > MAX_COMPOSED:
            return [Fault(pointer, "too_many", f"A template names at most {MAX_COMPOSED} fields.")]
        return [fault for name in dict.fromkeys(names) for fault in self._field_faults(name, pointer)]

    def _header_faults(self, header: str, position: int) -> list[Fault]:
        first = self._headers.setdefault(header, position)
        if first == position:
            return []
        detail = f"Column {first} has the header {header!r} already; give one of them another `header`."
        return [Fault(f"{_POINTER}/{position}", "duplicate", detail)]


def _shape_faults(members: dict[str, Any], pointer: str) -> list[Fault]:
    known = {*_KINDS, "header"}
    detail = "A column has the members `header` and one of `field`, `constant` and `template`."
    faults = [Fault(f"{pointer}/{name}", "unknown_member", detail) for name in members if name not in known]
    kinds = [name for name in _KINDS if name in members]
    if not kinds:
        return [*faults, Fault(f"{pointer}/field", "required", 'Name the column\'s field, e.g. "name".')]
    if len(kinds) > 1:
        return [*faults, Fault(pointer, "clash", f"A column is only one of these: {', '.join(kinds)}.")]
    [kind] = kinds
    if kind == "constant":
        if not isinstance(members[kind], str | int | float | bool | None):
            detail = "A constant is a text, a number, true, false or null; the same in every row."
            faults.append(Fault(f"{pointer}/constant", "wrong_type", detail))
    elif not isinstance(members[kind], str):
        faults.append(Fault(f"{pointer}/{kind}", "wrong_type", _SHAPE))
    header = members.get("header")
    if header is None and kind != "field":
        faults.append(Fault(f"{pointer}/header", "required", f"A {kind} has no name of its own; give it a `header`."))
    elif header is not None and (not isinstance(header, str) or not header):
        faults.append(Fault(f"{pointer}/header", "wrong_type", "A header is a text of at least one character."))
    return faults


def _nearest(field: str, known: dict[str, Path]) -> str:
    parent = field.rpartition(".")[0]
    near = [parent] if parent in known else difflib.get_close_matches(field, list(known), n=1, cutoff=0.6)
    if near:
        return f"the nearest is {near[0]!r}"
    return "the fields of the index are listed by GET /export_indices/{name}"
