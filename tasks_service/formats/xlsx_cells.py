"""Values as cells of a worksheet (ECMA-376, part 1, 18.3.1.4): exact, or not at all.

A number is a number cell where a spreadsheet shows all of it: integers of at most 15 digits, and doubles; longer
integers and what no double can hold are text. Texts keep every character: those that XML cannot hold, and what would
be read as such an escape, are written `_xHHHH_`. No cell is ever a formula. What lives here is one cell at a time; a
cell's place has the mark ROW where the number of its row belongs, which the writer knows. Called by xlsx_encoder.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

ROW: Final = "\0"
"""Stands for a row's number: a character that XML does not have, so that no text can hold it."""

LONGEST: Final = 32_767
"""Characters of a cell at most, in UTF-16, as spreadsheets count."""

HEADER_STYLE, DAY_STYLE, SECOND_STYLE, MILLISECOND_STYLE = range(4)
"""The styles of cells, as places in a sequence of the workbook's numbers of them."""

_DIGITS = 15
_LARGEST = 9.99999999999999e307
_SMALLEST = 2.2250738585072014e-308

# What XML cannot hold, what its readers change, and an underscore with which somebody's text would be an escape.
_UNLAWFUL = "\x00-\x08\x0b-\x1f\ufffe\uffff"
_ESCAPED = re.compile(f"[{_UNLAWFUL}]|_(?=x[0-9A-Fa-f]{{4}}[_{_UNLAWFUL}])")
_SPELT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_SPECIAL = re.compile(f"[&<>_{_UNLAWFUL}]")

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,3})0*)?([Zz]|[+-]\d\d(?::?\d\d)?)?")
_MILLISECONDS = re.compile(r"-?\d{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO = datetime(1899, 12, 30, tzinfo=UTC)
_FIRST_DAY = datetime(1900, 3, 1, tzinfo=UTC)
"""Before it, spreadsheets disagree: some have a 29th of February 1900, some have no such days at all."""

_DAY_MILLISECONDS = 86_400_000


class TooLongError(Exception):
    """A text is longer than a cell may be; the argument is its length."""


def column_letters(position: int) -> str:
    """Return the name of a column: A, B, ..., Z, AA, ..."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def escaped(text: str) -> str:
    """Return a text as the content of an element. Raises TooLongError."""
    if len(text) > LONGEST // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST:
        raise TooLongError(len(text.encode("utf-16-le")) // 2)
    if _SPECIAL.search(text) is None:
        return text
    return _ESCAPED.sub(lambda found: f"_x{ord(found[0]):04X}_", text).translate(_SPELT)


class CellMaker:
    """Makes the cells of one column."""

    def __init__(
        self, position: int, styles: Sequence[int], *, dates: bool = False, null: str = "", zone: tzinfo = UTC
    ) -> None:
        """Take the column's position from 0, and the workbook's styles.

        With `dates` its dates become a spreadsheet's, as a clock in `zone` shows them. `null` is the text where there
        is no value; "" makes no cell.
        """
        start = f'<c r="{column_letters(position)}{ROW}"'
        self._start = start
        self._text = f'{start} t="inlineStr"><is><t>'
        self._spaced = f'{start} t="inlineStr"><is><t xml:space="preserve">'
        self._number = f"{start}><v>"
        self._bools = {word: f'{start} t="b"><v>{int(word == "true")}</v></c>' for word in ("true", "false")}
        self._styles = styles
        self._dates = dates
        self._zone = zone
        self._null = self.text(null) if null else ""

    def cell(self, raw: str | None) -> str:
        """Return the cell of a value given as compact JSON; null and absent are the null text. Raises TooLongError."""
        if raw is None or raw == "null":
            return self._null
        first = raw[0]
        if first == '"':
            text = raw[1:-1] if "\\" not in raw else json.loads(raw)
            return (self._date(text) if self._dates else None) or self.text(text)
        if first in "[{":
            return self.text(raw)
        if raw in self._bools:
            return self._bools[raw]
        if self._dates and (date := self._milliseconds(raw)) is not None:
            return date
        return f"{self._number}{raw}</v></c>" if _is_exact(raw) else self.text(raw)

    def text(self, text: str) -> str:
        """Return the cell of a text. Raises TooLongError."""
        start = self._text if text == text.strip() else self._spaced
        return f"{start}{escaped(text)}</t></is></c>"

    def header(self, text: str) -> str:
        """Return the cell of a column's header. Raises TooLongError."""
        style = f'{self._start} s="{self._styles[HEADER_STYLE]}"'
        return self.text(text).replace(self._start, style, 1)

    def _date(self, text: str) -> str | None:
        """Return the cell of a day or an instant; None of what a spreadsheet's date cannot hold exactly."""
        try:
            if _DAY.fullmatch(text):
                return self._dated(datetime.fromisoformat(text).replace(tzinfo=UTC), DAY_STYLE)
            found = _INSTANT.fullmatch(text)
            if found is None:
                return None
            day, time, fraction, offset = found.groups()
            zone = "+00:00" if offset in (None, "Z", "z") else offset
            moment = self._wall(datetime.fromisoformat(f"{day}T{time}{zone}"))
        except (ValueError, OverflowError):
            return None
        return self._dated(moment + timedelta(milliseconds=int((fraction or "0").ljust(3, "0"))))

    def _milliseconds(self, raw: str) -> str | None:
        """Return the cell of milliseconds since 1970, as Elasticsearch reads numbers in fields of dates."""
        if not _MILLISECONDS.fullmatch(raw):
            return None
        try:
            return self._dated(self._wall(_EPOCH + timedelta(milliseconds=int(raw))))
        except OverflowError:
            return None

    def _wall(self, moment: datetime) -> datetime:
        """Return what a clock in the zone shows at a moment: a spreadsheet's date has no zone."""
        return moment.astimezone(self._zone).replace(tzinfo=UTC)

    def _dated(self, moment: datetime, style: int | None = None) -> str | None:
        if moment < _FIRST_DAY:
            return None
        milliseconds = (moment - _DAY_ZERO) // timedelta(milliseconds=1)
        days, rest = divmod(milliseconds, _DAY_MILLISECONDS)
        if style is None:
            style = SECOND_STYLE if moment.microsecond == 0 else MILLISECOND_STYLE
        serial = str(days) if not rest else repr(milliseconds / _DAY_MILLISECONDS)
        return f'{self._start} s="{self._styles[style]}"><v>{serial}</v></c>'


def _is_exact(number: str) -> bool:
    """Tell whether a spreadsheet holds, and shows, all of a JSON number."""
    digits = number.removeprefix("-")
    if digits.isdecimal():
        return len(digits) <= _DIGITS
    size = abs(float(number))
    return size == 0 or _SMALLEST <= size <= _LARGEST
