"""The DuckDB query that turns a chunk of raw documents into CSV rows, as text.

What lives here is the SQL and nothing that runs it: pure functions of the columns and options. The chunk is a table
(chunk.py), a document a row; the answer is one row: the bytes, the number of documents, and whether some document is
irregular (see flatten.py). Suspicious cells are marked where a mark is given: counting marks in the bytes costs a
quarter of what counting such cells in SQL does. Called by csv_encoder.py.

Cells: what `json_extract_string` makes of a value. Strings are themselves, integers of any length exact, other numbers
the shortest text of their double (1.10 becomes 1.1), objects and arrays compact JSON, null and absent nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_service.formats.composition import Composition, literal
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.formulas import FORMULA_STARTS, NUMERIC, SEPARATORS, starts_formula
from tasks_service.formats.local_times import LocalTimes

CHUNK = "chunk"
"""The name under which a statement reads the chunk."""

WIDE = 64
"""Columns above which documents are flattened first: DuckDB looks every path up anew, in time that grows squared."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A path whose value tells that a document is irregular: an array; or, where `objects`, an object too."""

    path: tuple[str, ...]
    objects: bool


def pointer(path: Sequence[str]) -> str:
    """Return a path as a JSON pointer (RFC 6901), which unlike a JSONPath can spell every member name."""
    return "".join("/" + member.replace("~", "~0").replace("/", "~1") for member in path)


def rows_query(
    composition: Composition, watched: Sequence[Watch], options: CsvOptions, local: LocalTimes | None, mark: str = ""
) -> str:
    """Return the statement for regular documents: every field by its path. `mark` is put before suspicious cells.

    The cells are made by one lambda over the list of values. An expression for each column runs a little faster but
    takes thirty milliseconds to plan for a dozen columns, every time.
    """
    width = len(composition.fields)
    paths = [pointer(field.path) for field in composition.fields] + [pointer(watch.path) for watch in watched]
    values = f"json_extract_string(document, [{', '.join(map(literal, paths))}])"
    found = [irregular(watch, width + position) for position, watch in enumerate(watched)]
    return _statement(_values(values, local), composition.texts(), " OR ".join(found) or "false", options, mark)


def flat_rows_query(composition: Composition, options: CsvOptions, local: LocalTimes | None, mark: str = "") -> str:
    """Return the statement for documents that flatten.py has made: each an array of the fields' values."""
    values = _values("json_extract_string(document, '$[*]')", local)
    return _statement(values, composition.texts(), "false", options, mark)


def _values(values: str, local: LocalTimes | None) -> str:
    found = f"(SELECT {values} AS v FROM {CHUNK})"  # noqa: S608 -- made of literals
    return found if local is None else local.applied(found)


def _statement(values: str, cells: str, odd: str, options: CsvOptions, mark: str) -> str:
    cell = _cell("x", options, mark)
    row = f"array_to_string(list_transform({cells}, lambda x: {cell}), {literal(options.delimiter)})"
    end = literal(options.row_end)
    # Every part is made of literals above; a caller's text is only ever inside literal().
    return (
        f"SELECT encode(string_agg({row} || {end}, '')), count(*), "  # noqa: S608
        f"coalesce(bool_or({odd}), false) FROM {values}"
    )


def _cell(value: str, options: CsvOptions, mark: str) -> str:
    special = list(options.special)
    quoted = _quoted(value, options)
    risky = ""
    if options.formula_guard == "escape":
        special += [separator for separator in SEPARATORS if separator != options.delimiter]
        risky = f"WHEN {_risky(value)} THEN concat('\"''', replace({value}, '\"', '\"\"'), '\"') "
    tests = [f"contains({value}, {literal(character)})" for character in special]
    if options.null:
        # Null is told from such a text by its lack of quotes.
        tests.append(f"{value} = {literal(options.null)}")
    found = " OR ".join(tests)
    if options.quoting == "all":
        needed, plain = "", quoted
    else:
        needed = f"WHEN {value} = '' OR {found} THEN {quoted} "
        plain = value
    if mark:
        marked = f"CASE WHEN {found} THEN {quoted} ELSE {value} END" if needed else quoted
        risky = f"WHEN {_risky(value)} THEN concat({literal(mark)}, {marked}) "
    null = literal((mark if starts_formula(options.null) else "") + options.null)
    return f"CASE WHEN {value} IS NULL THEN {null} {risky}{needed}ELSE {plain} END"


def _quoted(value: str, options: CsvOptions) -> str:
    quote, escape = literal(options.quote), options.escaping
    inside = value if escape == options.quote else f"replace({value}, {literal(escape)}, {literal(escape * 2)})"
    return f"concat({quote}, replace({inside}, {quote}, {literal(escape + options.quote)}), {quote})"


def _risky(value: str) -> str:
    starts = ", ".join(literal(character) for character in FORMULA_STARTS)
    # The comparisons only save time: FORMULA_STARTS sort before the full stop, from = to @, or after \uff00, and what
    # most cells start with, digits and letters, does not.
    return (
        f"(({value} < '.' OR ({value} >= '=' AND {value} < 'A') OR {value} > '\uff00') "
        f"AND left({value}, 1) IN ({starts}) AND NOT regexp_full_match({value}, {literal(NUMERIC)}))"
    )


def irregular(watch: Watch, position: int) -> str:
    """Return the test of a watched value, the text at that place of `v`."""
    first = f"left(v[{position + 1}], 1)"
    return f"{first} IN ('[', '{{')" if watch.objects else f"{first} = '['"
