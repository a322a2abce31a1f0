"""What document files hold: a relation with one typed column a field, and the raw document of each row.

What lives here is the reading of columns and types out of Parquet, JSON lines and CSV, and the SQL that gives both:
the typed columns for the WHERE of a segment, and an expression for the document. Nothing is guessed from a part of
the rows: types hold for every row of the version that was opened. Called by files.py with an open DuckDB.

Documents. Parquet of our own carries the exact document in `_raw`; of other Parquet the row becomes a JSON object
(timestamps ISO 8601 in UTC, numbers exact). JSON lines are passed through. A row of CSV becomes an object of its
texts, where every value of a column is a number or true/false those are numbers and booleans.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks_service.errors import SourceError
from tasks_service.sources.files_folder import OpenFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

RAW = "_raw"
"""The column of our own Parquet files that holds the document itself."""

_MAX_DOCUMENT = 16 * 1024 * 1024
_DELIMITERS = ",;\t|"
_ISO_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?([.,][0-9]{1,9})?(Z|[+-][0-9]{2}:?([0-9]{2})?)?)?"
_INTEGER = "-?(0|[1-9][0-9]{0,17})"
_HUGE = "-?(0|[1-9][0-9]{0,36})"
_NUMBER = "-?(0|[1-9][0-9]{0,14})([.][0-9]{1,14})?([eE][+-]?[0-9]{1,2})?"
_TEMPORAL = {"date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}
_AS_TEXT = {*_TEMPORAL, "time", "time with time zone", "uuid", "varchar"}
_SUFFIXED = re.compile(r"(.+)_[0-9]+")


_FILES = "\0files\0"
"""Stands for the list of files in a statement: the files of one version are opened again for each snapshot."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is read from: `SELECT {document} FROM {over(folder)}` has a document a row, as text.

    Attributes:
        source: what stands behind FROM, with one typed column a field; see `over`.
        document: an expression over it.
        columns: (name, type as DESCRIBE prints it) of every field.
        types: dotted path -> date, for texts that all are ISO 8601 dates.
    """

    source: str
    document: str
    columns: tuple[tuple[str, str], ...]
    types: tuple[tuple[str, str], ...] = ()

    def over(self, folder: OpenFolder) -> str:
        """Return the source over the files of an open folder."""
        return _over(self.source, folder.paths)


def _over(statement: str, paths: list[str]) -> str:
    return statement.replace(_FILES, "[" + ", ".join(literal(path) for path in paths) + "]")


class _Probe:
    """Asks questions of the files."""

    def __init__(self, connection: DuckDBPyConnection, folder: OpenFolder) -> None:
        self._connection = connection
        self.folder = folder

    def row(self, statement: str) -> tuple[Any, ...]:
        """Return the one row of a statement."""
        row = self._connection.execute(_over(statement, self.folder.paths)).fetchone()
        return row or ()

    def described(self, source: str) -> tuple[tuple[str, str], ...]:
        """Return (name, printed type) of every column."""
        statement = f"DESCRIBE SELECT * FROM {source}"  # noqa: S608 -- made of literals
        rows = self._connection.execute(_over(statement, self.folder.paths)).fetchall()
        return tuple((str(row[0]), str(row[1])) for row in rows)

    def typed(self, source: str) -> list[tuple[str, DuckDBPyType]]:
        """Return (name, type) of every column."""
        relation = self._connection.sql(_over(f"SELECT * FROM {source}", self.folder.paths))  # noqa: S608
        return list(zip(relation.columns, relation.types, strict=True))


def quoted(identifier: str) -> str:
    """Return a quoted DuckDB identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def read_relation(connection: DuckDBPyConnection, folder: OpenFolder, pinned: dict[str, str]) -> Relation:
    """Find out what the files hold. `pinned` names fields whose type the configuration tells.

    Raises SourceError where they cannot be one relation; duckdb.Error where a file is damaged.
    """
    if not folder.paths:
        raise SourceError("The files of the index are empty, so their fields are unknown.")
    readers: dict[str, Callable[[_Probe, dict[str, str]], Relation]] = {"parquet": _parquet, "json": _json, "csv": _csv}
    return readers[folder.kind](_Probe(connection, folder), pinned)


# -- Parquet ------------------------------------------------------------------------------------------------------


def _parquet(probe: _Probe, _pinned: dict[str, str]) -> Relation:
    source = f"read_parquet({_FILES}, union_by_name = true)"
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


# -- JSON lines ---------------------------------------------------------------------------------------------------


def _json(probe: _Probe, pinned: dict[str, str]) -> Relation:
    lines = f"read_json_objects({_FILES}, format = 'newline_delimited', maximum_object_size = {_MAX_DOCUMENT})"
    # Every row is looked at, to every depth; an object stays an object however rare its members are.
    fields = probe.typed(
        f"read_json({_FILES}, format = 'newline_delimited', sample_size = -1, maximum_depth = -1, "
        f"map_inference_threshold = -1, field_appearance_threshold = 0, maximum_object_size = {_MAX_DOCUMENT})"
    )
    _refuse_arrays(probe, lines)
    _refuse_alike(probe, lines, [name for name, _ in fields])
    shape = {name: _shape(kind) for name, kind in fields}
    candidates = [step for name, kind in fields for step in _dates((name,), "$." + _step(name), kind)]
    types = _proven_dates(probe, lines, [(path, at) for path, at in candidates if path not in pinned])
    inner = f"(SELECT json, from_json(json, {literal(json.dumps(shape))}) AS typed FROM {lines})"  # noqa: S608
    columns = probe.described(f"(SELECT typed.* FROM {inner})")  # noqa: S608 -- made of literals
    exposed = ", ".join(f"struct_extract(typed, {literal(name)}) AS {quoted(name)}" for name, _ in columns)
    document = _unused("_document", shape)
    source = f"(SELECT json AS {quoted(document)}, {exposed} FROM {inner})"  # noqa: S608 -- made of literals
    return Relation(source, f"CAST({quoted(document)} AS VARCHAR)", columns, types)


def _unused(name: str, taken: Iterable[str]) -> str:
    """Return a name for a column of our own that no field has."""
    folded = {one.lower() for one in taken}
    while name in folded:
        name += "_"
    return name


def _shape(kind: DuckDBPyType) -> object:
    """Return the structure that from_json takes; texts stay texts, whatever they look like."""
    name = kind.id
    if name == "struct":
        return {key: _shape(inner) for key, inner in _children(kind)}
    if name in {"list", "array"}:
        return [_shape(next(inner for key, inner in _children(kind) if key == "child"))]
    if str(kind) == "JSON" or name in {"null", "map"}:
        return "JSON"
    return "VARCHAR" if name in _AS_TEXT else str(kind)


def _step(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dates(path: tuple[str, ...], at: str, kind: DuckDBPyType) -> Iterator[tuple[str, str]]:
    """Yield (dotted path, JSONPath) of every text that looked like a date."""
    if kind.id in _TEMPORAL:
        yield ".".join(path), at
    elif kind.id == "struct":
        for key, inner in _children(kind):
            yield from _dates((*path, key), f"{at}.{_step(key)}", inner)
    elif kind.id == "list":
        yield from _dates(path, at + "[*]", _children(kind)[0][1])


def _proven_dates(probe: _Probe, lines: str, candidates: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return which candidates hold nothing but ISO 8601 dates."""
    if not candidates:
        return ()
    iso = literal(_ISO_DATE)
    tests: list[str] = []
    for _, at in candidates:
        text = f"json_extract_string(json, {literal(at)})"
        odd = (
            f"len(list_filter({text}, lambda x: NOT coalesce(regexp_full_match(x, {iso}), true))) > 0"
            if "[*]" in at
            else f"NOT regexp_full_match({text}, {iso})"
        )
        tests.append(f"NOT coalesce(bool_or({odd}), false)")
    row = probe.row(f"SELECT {', '.join(tests)} FROM {lines}")  # noqa: S608 -- made of literals
    return tuple((path, "date") for (path, _), proven in zip(candidates, row, strict=True) if proven)


def _refuse_arrays(probe: _Probe, lines: str) -> None:
    odd = f"SELECT count(*) FROM {lines} WHERE json_type(json) <> 'OBJECT'"  # noqa: S608 -- made of literals
    if probe.row(odd)[0]:
        raise SourceError("Some line of the index's files is not a JSON object; each line must be one.")


def _refuse_alike(probe: _Probe, lines: str, names: list[str]) -> None:
    """Refuse members that differ only in case: DuckDB would rename one of them."""
    folded = [name.lower() for name in names]
    for name in names:
        match = _SUFFIXED.fullmatch(name)
        if match is None or match[1].lower() not in folded:
            continue
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        there = f"SELECT bool_or(json_exists(json, {literal(pointer)})) FROM {lines}"  # noqa: S608
        if not probe.row(there)[0]:
            raise SourceError(f"The documents have members that differ only in case, like {match[1]!r}; rename one.")


# -- CSV ----------------------------------------------------------------------------------------------------------


def _csv(probe: _Probe, pinned: dict[str, str]) -> Relation:
    headers = {path: _csv_header(path, probe.folder.name_of(path)) for path in probe.folder.paths}
    if len(set(headers.values())) != 1:
        raise SourceError("The CSV files of the index have different headers; give all of them the same columns.")
    delimiter, names = next(iter(headers.values()))
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    source = (
        f"read_csv({_FILES}, auto_detect = false, delim = {literal(delimiter)}, quote = '\"', "
        f"escape = '\"', header = true, columns = {{{columns}}}, allow_quoted_nulls = false, "
        f"max_line_size = {_MAX_DOCUMENT})"
    )
    kinds = _csv_kinds(probe, source, names, pinned)
    typed = ", ".join(f"CAST({quoted(name)} AS {kinds[name][0]}) AS {quoted(name)}" for name in names)
    members = [
        (name, quoted(name) if kinds[name][0] != "VARCHAR" else f"CAST(to_json({quoted(name)}) AS VARCHAR)")
        for name in names
    ]
    document = _unused("_document", names)
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
            first = file.readline(_MAX_DOCUMENT)
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
    probe: _Probe, source: str, names: tuple[str, ...], pinned: dict[str, str]
) -> dict[str, tuple[str, bool]]:
    """Return the DuckDB type of every column, and whether its texts all are dates; over every row."""
    asked = (_INTEGER, _HUGE, _NUMBER, "true|false", _ISO_DATE)
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
