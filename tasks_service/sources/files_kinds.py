"""What document files of each kind hold: a relation with one typed column a field, and the raw document of each row.

What lives here is the reading of columns and types out of Parquet and CSV, and the SQL that gives both: the typed
columns for the WHERE of a segment, and an expression for the document; JSON lines are files_lines.py's. Nothing is
guessed from a part of the rows: types hold for every row of the version that was opened. Called by files.py with an
open DuckDB.

Documents. Parquet of our own carries the exact document in `_raw`; of other Parquet the row becomes a JSON object
(timestamps ISO 8601 in UTC, numbers exact). JSON lines are passed through. A row of CSV becomes an object of its
texts, where every value of a column is a number or true/false those are numbers and booleans.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks_service.errors import SourceError
from tasks_service.sources.files_folder import OpenFolder
from tasks_service.sources.files_lines import lines_relation
from tasks_service.sources.files_relation import FILES, MAX_DOCUMENT, Probe, Relation, literal, quoted, unused
from tasks_service.sources.files_structure import ISO_DATE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

RAW = "_raw"
"""The column of our own Parquet files that holds the document itself."""

_DELIMITERS = ",;\t|"
_INTEGER = "-?(0|[1-9][0-9]{0,17})"
_HUGE = "-?(0|[1-9][0-9]{0,36})"
_NUMBER = "-?(0|[1-9][0-9]{0,14})([.][0-9]{1,14})?([eE][+-]?[0-9]{1,2})?"


def read_relation(connection: DuckDBPyConnection, folder: OpenFolder, pinned: dict[str, str]) -> Relation:
    """Find out what the files hold. `pinned` names fields whose type the configuration tells.

    Raises SourceError where they cannot be one relation; duckdb.Error where a file is damaged.
    """
    if not folder.paths:
        raise SourceError("The files of the index are empty, so their fields are unknown.")
    readers: dict[str, Callable[[Probe, dict[str, str]], Relation]] = {
        "parquet": _parquet,
        "json": lines_relation,
        "csv": _csv,
    }
    return readers[folder.kind](Probe(connection, folder), pinned)


# -- Parquet ------------------------------------------------------------------------------------------------------


def _parquet(probe: Probe, _pinned: dict[str, str]) -> Relation:
    source = f"read_parquet({FILES}, union_by_name = true)"
    columns = probe.described(source)
    if any(name == RAW for name, _ in columns):
        if probe.row(f"SELECT count(*) FROM {source} WHERE {RAW} IS NULL")[0]:  # noqa: S608 -- made of literals
            raise SourceError(f"Some rows of the index's files have no {RAW}; all must have it, or none.")
        return Relation(source, RAW, tuple(column for column in columns if column[0] != RAW))
    return Relation(
        source, _object([(name, _text(quoted(name), kind, 0)) for name, kind in probe.typed(source)]), columns
    )


def _object(members: list[tuple[str, str]]) -> str:
    """Return an expression of a JSON object as text; the members' expressions are JSON texts, NULL where null.

    The text is put together here because DuckDB's own JSON writer rounds numbers of more than 17 digits.
    """
    parts = [
        f"{literal(json.dumps(name, ensure_ascii=False) + ':')} || coalesce({text}, 'null')" for name, text in members
    ]
    return f"('{{' || concat_ws(',', {', '.join(parts)}) || '}}')"


def _text(value: str, kind: DuckDBPyType, depth: int) -> str:
    """Return an expression of the value as JSON text: exactly, and in the forms that documents use."""
    name = kind.id
    if name == "struct":
        members = [
            (key, _text(f"struct_extract({value}, {literal(key)})", inner, depth)) for key, inner in _children(kind)
        ]
        return f"CASE WHEN {value} IS NOT NULL THEN {_object(members)} END"
    if name in {"list", "array"}:
        inner = next(inner for key, inner in _children(kind) if key == "child")
        variable = f"element_{depth}"
        elements = f"lambda {variable}: coalesce({_text(variable, inner, depth + 1)}, 'null')"
        return f"('[' || array_to_string(list_transform({value}, {elements}), ',') || ']')"
    return _scalar_text(value, name)


def _scalar_text(value: str, name: str) -> str:
    if name.startswith("timestamp"):
        text = f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%f')"
        return f"""('"' || regexp_replace({text}, '[.]?0*$', '') || 'Z"')"""
    if name in {"float", "double"}:  # JSON has no word for NaN and infinities
        return f"CASE WHEN isfinite({value}) THEN CAST({value} AS VARCHAR) END"
    if name == "decimal":
        return f"CAST({value} AS VARCHAR)"
    return f"CAST(to_json({f'base64({value})' if name == 'blob' else value}) AS VARCHAR)"


def _children(kind: DuckDBPyType) -> list[tuple[str, Any]]:
    children: list[tuple[str, Any]] = kind.children
    return children


# -- CSV ----------------------------------------------------------------------------------------------------------


def _csv(probe: Probe, pinned: dict[str, str]) -> Relation:
    headers = {path: _csv_header(path, probe.folder.name_of(path)) for path in probe.folder.paths}
    if len(set(headers.values())) != 1:
        raise SourceError("The CSV files of the index have different headers; give all of them the same columns.")
    delimiter, names = next(iter(headers.values()))
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    source = (
        f"read_csv({FILES}, auto_detect = false, delim = {literal(delimiter)}, quote = '\"', "
        f"escape = '\"', header = true, columns = {{{columns}}}, allow_quoted_nulls = false, "
        f"max_line_size = {MAX_DOCUMENT})"
    )
    kinds = _csv_kinds(probe, source, names, pinned)
    typed = ", ".join(f"CAST({quoted(name)} AS {kinds[name][0]}) AS {quoted(name)}" for name in names)
    members = [
        (name, quoted(name) if kinds[name][0] != "VARCHAR" else f"CAST(to_json({quoted(name)}) AS VARCHAR)")
        for name in names
    ]
    document = unused("_document", names)
    relation = f"(SELECT {_object(members)} AS {quoted(document)}, {typed} FROM {source})"  # noqa: S608
    return Relation(
        relation,
        quoted(document),
        tuple((name, kinds[name][0]) for name in names),
        tuple((name, "date") for name in names if kinds[name][1]),
    )


def _csv_header(path: str, shown: str) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the column names of one file, from its first row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # noqa: PTH123 -- a descriptor's path
            first = file.readline(MAX_DOCUMENT)
    except UnicodeDecodeError as exc:
        raise SourceError(f"{shown} is not UTF-8.") from exc
    delimiter = max(_DELIMITERS, key=first.count)
    names = tuple(next(csv.reader([first], delimiter=delimiter), list[str]()))
    if not all(names) or len({name.lower() for name in names}) != len(names):
        raise SourceError(
            f"The first row of {shown} must name every column, each name once (upper and lower case alike)."
        )
    return delimiter, names


def _csv_kinds(
    probe: Probe, source: str, names: tuple[str, ...], pinned: dict[str, str]
) -> dict[str, tuple[str, bool]]:
    """Return the DuckDB type of every column, and whether its texts all are dates; over every row."""
    asked = (_INTEGER, _HUGE, _NUMBER, "true|false", ISO_DATE)
    tests = [
        f"coalesce(bool_and(regexp_full_match({quoted(name)}, {literal(pattern)})), false)"
        for name in names
        for pattern in asked
    ]
    row = probe.row(f"SELECT {', '.join(tests)} FROM {source}")  # noqa: S608 -- made of literals
    kinds: dict[str, tuple[str, bool]] = {}
    for position, name in enumerate(names):
        answers = list(row[position * len(asked) : (position + 1) * len(asked)])
        found = [
            kind for kind, holds in zip(("BIGINT", "HUGEINT", "DOUBLE", "BOOLEAN"), answers, strict=False) if holds
        ]
        kind = found[0] if found and name not in pinned else "VARCHAR"
        kinds[name] = (kind, bool(answers[-1]) and name not in pinned)
    return kinds
