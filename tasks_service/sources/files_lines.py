"""What JSON lines hold: a relation of their members, whose document is the line itself.

What lives here is how lines are found, how columns are decoded from them, and the questions that settle their types;
how the structures of documents are put together is files_structure.py's. Called by files_kinds.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from tasks_service.errors import SourceError
from tasks_service.sources.files_relation import DECODED, FILES, MAX_DOCUMENT, Probe, Relation, literal, quoted, unused
from tasks_service.sources.files_structure import Question, dates_of, merged, prove

_T = TypeVar("_T")

_SIZES = (MAX_DOCUMENT // 8, MAX_DOCUMENT // 4, MAX_DOCUMENT // 2, MAX_DOCUMENT)
"""How large buffers are, in bytes: as the longest line needs."""
_LINE_BUFFERS = 24
"""So many times the greatest document a thread of DuckDB may need to take JSON lines apart."""
_SAMPLE = 100
_PLACES_AT_ONCE = 1000
_LISTS_AT_ONCE = 10


def lines_relation(probe: Probe, pinned: dict[str, str]) -> Relation:
    """Return the relation of lines, with buffers that hold the longest: they also bound how much is decoded at once.

    Lines are found by DuckDB's reader of CSV: that of JSON keeps 96 MiB a thread however short they are. It drops
    what it has no buffer for, and what follows a delimiter, without a word, so lines are measured and counted first.
    """
    measured = [_measured(path) for path in probe.folder.paths]
    longest = max(one[0] for one in measured)
    size = next((size for size in _SIZES if longest <= size), None)
    if size is None:
        raise SourceError("A document of the index is greater than 16 MiB; each line of its files holds one.")
    needed = size * _LINE_BUFFERS
    probe.fit_memory(needed)
    options = (
        "auto_detect = false, header = false, columns = {'line': 'VARCHAR'}, delim = '\x01', "
        "quote = '', escape = '', new_line = '\\n', strict_mode = false, "
        f"max_line_size = {size}, buffer_size = {size}"
    )
    bare = r"CASE WHEN starts_with(line, '{') AND ends_with(line, '}') THEN line ELSE trim(line, E' \t\r') END"
    lines = f"(SELECT {bare} AS json FROM read_csv({FILES}, {options}) WHERE {bare} <> '')"  # noqa: S608
    structure = merged(text for (text,) in probe.rows(f"SELECT json_structure(json) FROM {lines}"))  # noqa: S608
    # An integer beyond 64 bits has 19 digits in a row; no other question needs to be asked of every number.
    long_digits = "bool_or(regexp_matches(CAST(json AS VARCHAR), '[0-9]{19}'))"
    found, wide = probe.row(f"SELECT count(*), {long_digits} FROM {lines}")  # noqa: S608 -- made of literals
    if found != sum(documents for _, documents in measured):
        raise SourceError("Some line of the index's files is not one JSON object; a line must not hold parts of it.")
    prove(structure, lambda asked: _hold(probe, lines, asked), lambda path: path not in pinned, wide=bool(wide))
    decoded = [(name, _member(name, json.dumps(inner.shape()))) for name, inner in (structure.members or {}).items()]
    columns: list[tuple[str, str]] = []
    for some in _batches(decoded, _PLACES_AT_ONCE):
        exposed = ", ".join(f"{value} AS {quoted(name)}" for name, value in some)
        columns += probe.described(f"(SELECT {exposed} FROM {lines})")  # noqa: S608 -- made of literals
    document = unused("_document", structure.members or ())
    source = f"(SELECT json AS {quoted(document)}{DECODED} FROM {lines})"  # noqa: S608 -- made of literals
    as_text = f"CAST({quoted(document)} AS VARCHAR)"
    return Relation(source, as_text, tuple(columns), dates_of(structure), needed, tuple(decoded))


def _measured(path: str) -> tuple[int, int]:
    """Return the bytes of a file's longest line, up to more than a document may have, and how many are not blank."""
    longest = documents = 0
    with open(path, "rb", buffering=1024 * 1024) as file:  # noqa: PTH123 -- a descriptor's path
        for line in iter(partial(file.readline, MAX_DOCUMENT + 1), b""):
            longest = max(longest, len(line))
            documents += not line.isspace()
            if b"\x01" in line:
                raise SourceError(
                    "The files of the index hold a control character (U+0001), which no JSON document does."
                )
    return longest, documents


def _member(name: str, shape: str) -> str:
    """Return an expression of one member, as its shape says."""
    value = f"from_json(json, {literal(f'{{{json.dumps(name)}:{shape}}}')})"
    return f"struct_extract({value}, {literal(name)})"


def _hold(probe: Probe, lines: str, asked: Sequence[tuple[str, Question]]) -> list[bool]:
    """Return of each question whether every value passes. The first documents settle most that do not."""
    answers = [True] * len(asked)
    for documents in (f"(SELECT json FROM {lines} LIMIT {_SAMPLE})", lines):  # noqa: S608 -- made of literals
        open_ones = [position for position, holds in enumerate(answers) if holds]
        inside = [position for position in open_ones if "[*]" in asked[position][0]]
        plain = [position for position in open_ones if "[*]" not in asked[position][0]]
        for some in (*_batches(plain, _PLACES_AT_ONCE), *_batches(inside, _LISTS_AT_ONCE)):
            tests = _tests([asked[position] for position in some])
            found = probe.row(f"SELECT {tests[0]} FROM (SELECT {tests[1]} FROM {documents})")  # noqa: S608
            for position, holds in zip(some, found, strict=True):
                answers[position] = holds
    return answers


def _tests(asked: Sequence[tuple[str, Question]]) -> tuple[str, str]:
    """Return what to select from what: of each question whether every value passes, from the values.

    Values of members are taken out of a document together: each call decodes it anew, and keeps what it decoded.
    """
    if any("[*]" in at for at, _ in asked):
        values = [f"{question.function}(json, {literal(at)}) AS v{place}" for place, (at, question) in enumerate(asked)]
        tests = [
            f"coalesce(bool_and(coalesce(len(list_filter(v{place}, lambda x: "
            f"NOT coalesce({question.test.replace('VALUE', 'x')}, true))) = 0, true)), true)"
            for place, (_, question) in enumerate(asked)
        ]
        return ", ".join(tests), ", ".join(values)
    places = ", ".join(literal(at) for at, _ in asked)
    tests = [
        f"coalesce(bool_and(coalesce({question.test.replace('VALUE', f'v[{place}]')}, true)), true)"
        for place, (_, question) in enumerate(asked, 1)
    ]
    return ", ".join(tests), f"json_extract_string(json, [{places}]) AS v"


def _batches(items: list[_T], most: int) -> list[list[_T]]:
    return [items[begin : begin + most] for begin in range(0, len(items), most)]
