"""The options of a CSV file: its dialect, its encoding, the formula guard, nested lists.

What lives here is the reading of `target.options` for csv, with a fault for whatever is not right: every value by
itself, and then what would make a file that can be read in two ways. Called by registry.py and csv_encoder.py.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tasks_service.errors import Fault
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.formulas import SEPARATORS, starts_formula
from tasks_service.formats.nested import NESTED_OPTIONS, nested_option_faults
from tasks_service.formats.null_text import NULL_OPTION, null_faults
from tasks_service.formats.zone_option import ZONE_OPTION, zone_faults

_CHOICES: Final[dict[str, tuple[str | bool, ...]]] = {
    "header": (True, False),
    "quoting": ("minimal", "all"),
    "line_ending": ("crlf", "lf"),
    "encoding": ("utf-8", "utf-16", "iso-8859-1", "windows-1252"),
    "bom": (False, True),
    "formula_guard": ("off", "escape"),
}
"""Options of few values, each with its values, the default first."""

OPTIONS: Final = ("delimiter", "quote", "escape", *_CHOICES, NULL_OPTION, ZONE_OPTION, *NESTED_OPTIONS)
UNICODE: Final = ("utf-8", "utf-16")
"""The encodings that have every character."""

_POINTER = "/target/options"
_NOT_DELIMITERS = frozenset("\r\n\0\ufeff")
_QUOTES = frozenset(string.punctuation) - frozenset("=+-@")
"""What may quote and escape: ASCII, which every reader takes, and not what a formula starts with."""

_LINE_ENDS = {"crlf": "\r\n", "lf": "\n"}


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How a CSV file is written.

    `quoting`: which cells are quoted: those that need it, or all; what is null is never. `escape` stands before a quote
    inside quotes, and before itself; where it is the quote, quotes are doubled. `formula_guard`: with `escape` a cell
    or header that a spreadsheet would take for a formula gets an apostrophe in front; with `off` such cells are
    counted. `null` stands, never quoted, where a value is null or missing; a value of that text is quoted.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    header: bool = True
    quoting: Literal["minimal", "all"] = "minimal"
    line_ending: Literal["crlf", "lf"] = "crlf"
    encoding: Literal["utf-8", "utf-16", "iso-8859-1", "windows-1252"] = "utf-8"
    bom: bool = False
    formula_guard: Literal["off", "escape"] = "off"
    null: str = ""

    @property
    def escaping(self) -> str:
        """What stands before a quote inside quotes."""
        return self.escape or self.quote

    @property
    def row_end(self) -> str:
        """What ends every row."""
        return _LINE_ENDS[self.line_ending]

    @property
    def codec(self) -> str:
        """Python's name of the encoding, which writes no byte order mark of its own."""
        return {"utf-16": "utf-16-le", "windows-1252": "cp1252"}.get(self.encoding, self.encoding)

    @property
    def mark(self) -> str:
        """The byte order mark, where there is one: UTF-16 is always told by it."""
        return "\ufeff" if self.bom or self.encoding == "utf-16" else ""

    @property
    def special(self) -> tuple[str, ...]:
        """The characters for which a cell is quoted."""
        escape = (self.escaping,) if self.escaping != self.quote else ()
        # The first cell of such a file must not look like a byte order mark, which readers take away.
        bare = ("\ufeff",) if not (self.header or self.mark) and self.encoding == "utf-8" else ()
        return (self.quote, "\r", "\n", self.delimiter, *escape, *bare)

    def quoted(self, text: str) -> str:
        """Return a text in quotes."""
        if self.escaping != self.quote:
            text = text.replace(self.escaping, self.escaping * 2)
        return self.quote + text.replace(self.quote, self.escaping + self.quote) + self.quote


def csv_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the options, each fault with its pointer under /target/options."""
    faults = [
        Fault(f"{_POINTER}/{name}", "unknown_option", f"csv has the options {', '.join(OPTIONS)}.")
        for name in options
        if name not in OPTIONS
    ]
    faults += [
        Fault(f"{_POINTER}/{name}", "invalid_option", f"{name} is {' or '.join(map(_written, values))}.")
        for name, values in _CHOICES.items()
        if not any(options.get(name, values[0]) is value or _is_text(options.get(name), value) for value in values)
    ]
    faults += _character_faults(options) + null_faults(options) + zone_faults(options)
    unsound = {fault.pointer.rpartition("/")[2] for fault in faults}
    given = {name: value for name, value in options.items() if name in OPTIONS and name not in unsound}
    return faults + _clashes(given, unsound) + nested_option_faults(options)


def _written(value: str | bool) -> str:  # noqa: FBT001 -- a value of JSON
    return str(value).lower() if isinstance(value, bool) else value


def _is_text(given: object, value: str | bool) -> bool:  # noqa: FBT001 -- a value of JSON
    return isinstance(given, str) and given == value


def _character_faults(options: Mapping[str, Any]) -> list[Fault]:
    faults: list[Fault] = []
    delimiter = options.get("delimiter", ",")
    if not _is_character(delimiter) or delimiter in _NOT_DELIMITERS:
        detail = 'The delimiter is one character, not a line break or NUL, e.g. "," or ";" or a tab.'
        faults.append(Fault(f"{_POINTER}/delimiter", "invalid_option", detail))
    faults += [
        Fault(
            f"{_POINTER}/{name}",
            "invalid_option",
            f"{name} is one mark of ASCII, e.g. {example}; letters, digits, spaces and = + - @ are none.",
        )
        for name, example in (("quote", "an apostrophe"), ("escape", "a backslash"))
        if name in options and not (isinstance(options[name], str) and options[name] in _QUOTES)
    ]
    return faults


def _is_character(text: object) -> bool:
    return isinstance(text, str) and len(text) == 1 and not "\ud800" <= text <= "\udfff"


def _clashes(given: Mapping[str, Any], unsound: set[str]) -> list[Fault]:
    """Return what does not go together, of options that are sound by themselves."""
    options = csv_options(given)
    faults: list[Fault] = []

    def clash(names: Sequence[str], detail: str) -> None:
        # One of those that were given is to change; what is unsound itself has its fault already.
        culprit = next((name for name in reversed(names) if name in given), None)
        if culprit is not None and not unsound & set(names):
            faults.append(Fault(f"{_POINTER}/{culprit}", "clash", detail))

    if options.delimiter == options.quote:
        detail = f"`delimiter` and `quote` are both {options.quote!r}; no reader could tell them apart."
        clash(("quote", "delimiter"), detail)
    if options.delimiter == options.escape:
        clash(("escape", "delimiter"), f"`delimiter` and `escape` are both {options.escape!r}; give another escape.")
    if options.encoding not in UNICODE and options.bom:
        clash(("bom", "encoding"), f"A byte order mark (`bom`) is for utf-8; {options.encoding} has none.")
    if options.encoding == "utf-16" and given.get("bom") is False:
        clash(("bom", "encoding"), "utf-16 always begins with its byte order mark; leave `bom` out.")
    if not _fits(options.delimiter, options):
        clash(("encoding", "delimiter"), f"{options.encoding} does not have the delimiter {options.delimiter!r}.")
    if options.formula_guard == "escape" and (options.quote, options.escaping) != ('"', '"'):
        detail = (
            '`formula_guard` needs the quotes that spreadsheets know, `"`, doubled inside a cell: with another `quote` '
            "or `escape` they split the cell, and what follows may be a formula."
        )
        clash(("quote", "escape", "formula_guard"), detail)
    for names, detail in _null_clashes(options):
        clash((*names, NULL_OPTION), detail)
    return faults


def _null_clashes(options: CsvOptions) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what `null` does not go with, and why."""
    null = options.null
    bare = "`null` is written without quotes, by which it is told from a value of the same text"
    marks = {"delimiter": options.delimiter, "quote": options.quote}
    if options.escaping != options.quote:
        marks["escape"] = options.escaping
    for name, mark in marks.items():
        if mark in null:
            yield (name,), f"{bare}: it cannot hold the {name}, {mark!r}. Choose another text, e.g. NULL."
    if not _fits(null, options):
        yield (
            ("encoding",),
            f"{options.encoding} does not have every character of `null`; choose utf-8, or another text.",
        )
    if options.formula_guard == "escape":
        if starts_formula(null):
            yield (
                ("formula_guard",),
                "`formula_guard` lets no cell start a formula, and `null` would; choose e.g. NULL.",
            )
        if found := [one for one in SEPARATORS if one in null and one != options.delimiter]:
            detail = f"{bare}: some spreadsheets would split it at {found[0]!r}, which `formula_guard` lets none do."
            yield ("formula_guard",), detail


def _fits(text: str, options: CsvOptions) -> bool:
    try:
        text.encode(options.codec)
    except UnicodeEncodeError:
        return False
    return True


def header_faults(columns: Sequence[AnyColumn], options: CsvOptions) -> list[Fault]:
    """Return a fault for each header that the encoding cannot hold, with its pointer under /target/columns."""
    if options.encoding in UNICODE or not options.header:
        return []
    return [
        Fault(
            f"/target/columns/{position}",
            "not_in_encoding",
            f"The header {column.header!r} has characters that {options.encoding} has not; choose utf-8, or give "
            "another `header`.",
        )
        for position, column in enumerate(columns)
        if not _fits(column.header, options)
    ]


def csv_options(options: Mapping[str, Any]) -> CsvOptions:
    """Return options that have no faults as an object."""
    return CsvOptions(**{name: value for name, value in options.items() if name not in (*NESTED_OPTIONS, ZONE_OPTION)})
