"""Which columns a table-like file has: from the task, else from the index's configuration, else from the catalogue.

What lives here is the choice, pure data; its checks are column_checks.py's. How a column's value becomes a cell is the
encoders'. Called by registry.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import InvalidRequestError
from tasks_service.formats.column_checks import check_columns, known_columns
from tasks_service.formats.dry_data import dry_data_of
from tasks_service.formats.file_columns import (
    AnyColumn,
    ConstantColumn,
    FileColumn,
    Path,
    TemplateColumn,
    template_pieces,
)
from tasks_service.formats.nested import every_column, exploded_path, options_of


def chosen_columns(target: dict[str, Any], catalog: Catalog, index: IndexSettings) -> tuple[AnyColumn, ...]:
    """Return the columns in the order of the file.

    Raises InvalidRequestError where the catalogue (as it is now) does not have one of them.
    """
    options = options_of(target)
    wanted: Any = target.get("columns") or index.columns
    if not wanted:
        every = [FileColumn(column.name, column.path) for column in every_column(options, catalog)]
        return _dry(target, every, index)
    if faults := check_columns(wanted, catalog, exploded=exploded_path(options, catalog)):
        raise InvalidRequestError(
            "The index has not every column that is asked for: " + "; ".join(fault.detail for fault in faults),
            faults=faults,
        )
    known = known_columns(catalog)
    return _dry(target, [_column(one, known) for one in wanted], index)


def _dry(target: dict[str, Any], columns: Sequence[AnyColumn], index: IndexSettings) -> tuple[AnyColumn, ...]:
    # Columns that the task names itself are all that is wanted; the API refuses both.
    dry = None if target.get("columns") else dry_data_of(target, index)
    return tuple(columns) if dry is None else dry.columns(columns)


def _column(wanted: object, known: dict[str, Path]) -> AnyColumn:
    """Return a column without a fault."""
    if isinstance(wanted, str):
        return FileColumn(wanted, known[wanted])
    members = cast("dict[str, Any]", wanted)
    if "constant" in members:
        return ConstantColumn(members["header"], members["constant"])
    if "template" in members:
        template = members["template"]
        pieces = tuple(known[text] if is_field else text for is_field, text in template_pieces(template))
        return TemplateColumn(members["header"], template, pieces)
    return FileColumn(members.get("header") or members["field"], known[members["field"]])


def described(column: AnyColumn, catalog: Catalog) -> dict[str, Any]:
    """Return what a manifest tells of a column: `name`, `field` and `type`, or the constant or template it is."""
    told: dict[str, Any] = {"name": column.header, "field": None, "type": None}
    match column:
        case FileColumn():
            name = ".".join(column.path)
            field = catalog.get(name)
            return told | {"field": name, "type": None if field is None else field.type}
        case ConstantColumn():
            return told | {"constant": column.value}
        case TemplateColumn():
            return told | {"template": column.template}
