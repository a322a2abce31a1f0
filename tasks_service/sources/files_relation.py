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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks_service.errors import SourceError
from tasks_service.sources.files_folder import OpenFolder
from tasks_service.sources.files_structure import ISO_DATE, Question, dates_of, merged, prove

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

RAW = "_raw"
"""The column of our own Parquet files that holds the document itself."""

_MAX_DOCUMENT = 16 * 1024 * 1024
_DELIMITERS = ",;\t|"
_INTEGER = "-?(0|[1-9][0-9]{0,17})"
_HUGE = "-?(0|[1-9][0-9]{0,36})"
_NUMBER = "-?(0|[1-9][0-9]{0,14})([.][0-9]{1,14})?([eE][+-]?[0-9]{1,2})?"
_FETCHED = 10_000
_SAMPLE = 1000
_ASKED_AT_ONCE = 500


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

    def rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement as they come."""
        cursor = self._connection.execute(_over(statement, self.folder.paths))
        while rows := cursor.fetchmany(_FETCHED):
            yield from rows

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
    structure = merged(text for (text,) in probe.rows(f"SELECT json_structure(json) FROM {lines}"))  # noqa: S608
    # An integer beyond 64 bits has 19 digits in a row; no other question needs to be asked of every number.
    (long_digits,) = probe.row(f"SELECT bool_or(regexp_matches(CAST(json AS VARCHAR), '[0-9]{{19}}')) FROM {lines}")  # noqa: S608
    prove(structure, lambda asked: _hold(probe, lines, asked), lambda path: path not in pinned, long_digits=long_digits)
    shape = structure.shape()
    inner = f"(SELECT json, from_json(json, {literal(json.dumps(shape))}) AS typed FROM {lines})"  # noqa: S608
    columns = probe.described(f"(SELECT typed.* FROM {inner})")  # noqa: S608 -- made of literals
    exposed = ", ".join(f"struct_extract(typed, {literal(name)}) AS {quoted(name)}" for name, _ in columns)
    document = _unused("_document", structure.members or ())
    source = f"(SELECT json AS {quoted(document)}, {exposed} FROM {inner})"  # noqa: S608 -- made of literals
    return Relation(source, f"CAST({quoted(document)} AS VARCHAR)", columns, dates_of(structure))


def _hold(probe: _Probe, lines: str, asked: Sequence[tuple[str, Question]]) -> list[bool]:
    """Return of each question whether every value passes. The first documents settle most that do not."""
    answers = [True] * len(asked)
    for documents in (f"(SELECT json FROM {lines} LIMIT {_SAMPLE})", lines):  # noqa: S608 -- made of literals
        open_ones = [position for position, holds in enumerate(answers) if holds]
        for begin in range(0, len(open_ones), _ASKED_AT_ONCE):
            some = open_ones[begin : begin + _ASKED_AT_ONCE]
            tests = ", ".join(_holds(*asked[position]) for position in some)
            found = probe.row(f"SELECT {tests} FROM {documents}")  # noqa: S608 -- made of literals
            for position, holds in zip(some, found, strict=True):
                answers[position] = holds
    return answers


def _holds(at: str, question: Question) -> str:
    """Return an expression: whether every value at a JSONPath passes."""
    value = f"{question.function}(json, {literal(at)})"
    if "[*]" in at:
        odd = f"list_filter({value}, lambda x: NOT coalesce({question.test.replace('VALUE', 'x')}, true))"
        return f"coalesce(bool_and(coalesce(len({odd}) = 0, true)), true)"
    return f"coalesce(bool_and(coalesce({question.test.replace('VALUE', value)}, true)), true)"


def _unused(name: str, taken: Iterable[str]) -> str:
    """Return a name for a column of our own that no field has."""
    folded = {one.lower() for one in taken}
    while name in folded:
        name += "_"
    return name


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
