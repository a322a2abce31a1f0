"""Which formats there are, and which encoder a task's target asks for.

What lives here is the table; each encoder is a file of its own. Called by export.py for a run, and by the API for the
checks of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import Fault, InvalidRequestError
from tasks_service.formats import Encoder
from tasks_service.formats.column_checks import AROUND_EXPLODED, check_columns
from tasks_service.formats.columns import chosen_columns, described
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import csv_faults, csv_options, header_faults
from tasks_service.formats.dry_data import DryData, dry_data_of
from tasks_service.formats.explode import exploding
from tasks_service.formats.file_columns import AnyColumn, FileColumn
from tasks_service.formats.json_encoder import JsonEncoder, JsonLinesEncoder
from tasks_service.formats.nested import exploded_path, explosion_faults, nested_option_faults, options_of
from tasks_service.formats.parquet_encoder import ParquetEncoder
from tasks_service.formats.parquet_options import parquet_faults
from tasks_service.formats.parquet_types import TEXT, column_type
from tasks_service.formats.xlsx_encoder import XlsxEncoder, sheet_faults
from tasks_service.formats.xlsx_options import xlsx_faults
from tasks_service.formats.xml_encoder import XmlEncoder
from tasks_service.formats.xml_options import xml_faults
from tasks_service.formats.xml_schema import ElementType, element_type, schema
from tasks_service.formats.zone_option import ZONE_OPTION, local_times
from tasks_service.zones import Rules

__all__ = [
    "COLUMN_FORMATS",
    "COMPRESSED_FORMATS",
    "FORMATS",
    "JOINED_FORMATS",
    "check_by_catalog",
    "check_columns",
    "check_options",
    "described_columns",
    "encoder_for",
    "schema_of",
]


def _csv(target: dict[str, Any], catalog: Catalog, columns: Sequence[AnyColumn], rules: Rules | None) -> Encoder:
    given = options_of(target)
    options = csv_options(given)
    local = local_times(given, columns, catalog, rules)
    return exploding(exploded_path(given, catalog), columns, lambda columns: CsvEncoder(columns, options, local))


def _xlsx(target: dict[str, Any], catalog: Catalog, columns: Sequence[AnyColumn], rules: Rules | None) -> Encoder:
    given = options_of(target)
    as_dates = given.get("dates") == "excel"
    dates = [as_dates and described(column, catalog)["type"] == "date" for column in columns]
    name, null = str(target.get("export_index") or "export"), given.get("null", "")
    local = local_times(given, columns, catalog, rules)
    return exploding(
        exploded_path(given, catalog),
        columns,
        lambda columns: XlsxEncoder(columns, name, dates=dates, null=null, local=local),
    )


def _parquet(target: dict[str, Any], catalog: Catalog, columns: Sequence[AnyColumn], _rules: Rules | None) -> Encoder:
    given = options_of(target)
    exploded = exploded_path(given, catalog)
    types = [
        column_type(catalog.get(".".join(column.path)), exploded)
        if isinstance(column, FileColumn) and given.get("typed", True)
        else TEXT
        for column in columns
    ]
    return exploding(exploded, columns, lambda columns: ParquetEncoder(columns, types))


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise InvalidRequestError("; ".join(fault.detail for fault in faults), faults=faults)


def _xml(target: dict[str, Any], catalog: Catalog, columns: Sequence[AnyColumn], _rules: Rules | None) -> Encoder:
    exploded, types = exploded_path(options_of(target), catalog), _elements(target, catalog, columns)
    return exploding(exploded, columns, lambda columns: XmlEncoder(columns, types))


def _elements(target: dict[str, Any], catalog: Catalog, columns: Sequence[AnyColumn]) -> list[ElementType]:
    typed = options_of(target).get("typed", True)
    return [element_type(column, catalog, typed=typed) for column in columns]


_OF_DOCUMENTS: Final[dict[str, Callable[[DryData | None], Encoder]]] = {"json": JsonEncoder, "jsonl": JsonLinesEncoder}

_OF_COLUMNS: Final[dict[str, Callable[[dict[str, Any], Catalog, Sequence[AnyColumn], Rules | None], Encoder]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "xlsx": _xlsx,
    "xml": _xml,
}

_OPTION_FAULTS: Final[dict[str, Callable[[Mapping[str, Any]], list[Fault]]]] = {
    "csv": csv_faults,
    "parquet": parquet_faults,
    "xlsx": xlsx_faults,
    "xml": xml_faults,
}

FORMATS: Final = tuple(sorted((*_OF_COLUMNS, *_OF_DOCUMENTS)))
"""The names `export_format` may have; each is its file's extension too."""

COLUMN_FORMATS: Final = tuple(_OF_COLUMNS)
"""The formats that have columns; the others hold whole documents, and refuse `columns`."""

COMPRESSED_FORMATS: Final = ("parquet", "xlsx")
"""The formats that are compressed inside; a compression around them would only hide them from their readers."""

JOINED_FORMATS: Final = ("csv", "json", "jsonl", "xml")
"""The formats whose files grow row by row, so that one can end at a number of bytes (`Encoder.joints`)."""


def encoder_for(
    target: dict[str, Any], catalog: Catalog, index: IndexSettings, *, rules: Rules | None = None
) -> Encoder:
    """Return the encoder of one file; `rules` are those of the zone it names (this host's, where none are given).

    Raises InvalidRequestError for an unknown format or option, and where the index lacks a column that is asked for.
    """
    name = str(target.get("export_format") or "csv")
    if name not in FORMATS:
        raise InvalidRequestError(f"Unknown format {name!r}; use one of {', '.join(FORMATS)}.")
    options = options_of(target)
    # A zone whose rules are given is one, whether this host knows it or not.
    own = options if rules is None else {key: value for key, value in options.items() if key != ZONE_OPTION}
    _refuse(check_options(name, own) or explosion_faults(options, catalog))
    if name in _OF_DOCUMENTS:
        return _OF_DOCUMENTS[name](dry_data_of(target, index))
    columns = chosen_columns(target, catalog, index)
    _refuse(_file_faults(name, target, columns))
    return _OF_COLUMNS[name](target, catalog, columns, rules)


def described_columns(target: dict[str, Any], catalog: Catalog, index: IndexSettings) -> list[dict[str, Any]] | None:
    """Return the columns of a target's file, as `described` has them; None where it has none."""
    if target["export_format"] not in COLUMN_FORMATS:
        return None
    return [described(column, catalog) for column in chosen_columns(target, catalog, index)]


def schema_of(target: dict[str, Any], catalog: Catalog, index: IndexSettings) -> str | None:
    """Return the XML Schema of a target's file; None where it is of another format."""
    if target["export_format"] != "xml":
        return None
    columns = chosen_columns(target, catalog, index)
    return schema(columns, _elements(target, catalog, columns))


def check_options(export_format: str, options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with a target's `options` for that format, each with its pointer under /target/options."""
    if export_format in _OPTION_FAULTS:
        return _OPTION_FAULTS[export_format](options)
    detail = f"{export_format} has no options; {', '.join(_OPTION_FAULTS)} have."
    return [Fault(f"/target/options/{name}", "unknown_option", detail) for name in options]


def check_by_catalog(target: dict[str, Any], catalog: Catalog, index: IndexSettings) -> list[Fault]:
    """Return what is wrong with the list a target explodes and with its columns, by the catalogue as it is now.

    `options` is an object where it is given; what is wrong with it by itself is found by `check_options`.
    """
    options = options_of(target)
    sound = not nested_option_faults(options)
    faults = explosion_faults(options, catalog) if sound else []
    exploded = exploded_path(options, catalog) if sound and not faults else None
    if target.get("columns") is not None:
        faults += check_columns(target["columns"], catalog, exploded=exploded)
    elif exploded is not None and index.columns:
        found = check_columns(index.columns, catalog, exploded=exploded)
        faults += [replace(fault, pointer="/target/columns") for fault in found if fault.code == AROUND_EXPLODED]
    name = str(target.get("export_format"))
    if not faults and not check_options(name, options):
        faults = _file_faults(name, target, chosen_columns(target, catalog, index))
    return faults


def _file_faults(name: str, target: dict[str, Any], columns: Sequence[AnyColumn]) -> list[Fault]:
    """Return what the file of a target cannot hold of sound columns."""
    if not columns:
        detail = "`dry_data` leaves no column of this index; name the wanted ones in `columns` instead."
        return [Fault("/target/dry_data", "no_columns", detail)]
    match name:
        case "csv":
            return header_faults(columns, csv_options(options_of(target)))
        case "xlsx":
            return sheet_faults(columns)
        case _:
            return []
