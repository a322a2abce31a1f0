"""A mapping's date ``format`` read as regular expressions: Java's pattern letters, and the names for common patterns.

Elasticsearch compares instants, so that its queries need none of this; what reads documents does (``instants``).
Letters that spell names of days and months, weeks and text zones are not known here: such an alternative reads nothing.
"""

from __future__ import annotations

import re
from functools import cache
from types import MappingProxyType

_TIME = "HH:mm:ss"
_NAMED: MappingProxyType[str, str] = MappingProxyType(
    {
        "basic_date": "yyyyMMdd",
        "basic_date_time": "yyyyMMdd'T'HHmmss.SSSX",
        "basic_date_time_no_millis": "yyyyMMdd'T'HHmmssX",
        "date": "yyyy-MM-dd",
        "date_hour": "yyyy-MM-dd'T'HH",
        "date_hour_minute": "yyyy-MM-dd'T'HH:mm",
        "date_hour_minute_second": f"yyyy-MM-dd'T'{_TIME}",
        "date_hour_minute_second_fraction": f"yyyy-MM-dd'T'{_TIME}.SSS",
        "date_hour_minute_second_millis": f"yyyy-MM-dd'T'{_TIME}.SSS",
        "date_time": f"yyyy-MM-dd'T'{_TIME}.SSSX",
        "date_time_no_millis": f"yyyy-MM-dd'T'{_TIME}X",
        "year": "yyyy",
        "year_month": "yyyy-MM",
        "year_month_day": "yyyy-MM-dd",
    }
)
_PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']")
_LETTERS = MappingProxyType(
    {"y": "year", "u": "year", "M": "month", "d": "day", "H": "hour", "m": "minute", "s": "second"}
)
_OFFSET = "(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{2})?)"


@cache
def pattern(alternative: str) -> re.Pattern[str] | None:
    """The regular expression of one alternative of a ``format``, with the parts as named groups; None if unknown."""
    written = _NAMED.get(alternative.removeprefix("strict_"), alternative)
    parts: list[str] = []
    at = 0
    while at < len(written):
        piece = _PIECE.match(written, at)
        if piece is None:
            return None
        part = _part(piece)
        if part is None:
            return None
        parts.append(part)
        at = piece.end()
    try:
        return re.compile("".join(parts), re.ASCII)
    except re.error:  # a letter twice
        return None


def _part(piece: re.Match[str]) -> str | None:
    text, letter, whole = piece[1], piece[2], piece[0]
    if letter is None:
        return re.escape(whole if text is None else text.replace("''", "'") or "'")
    if letter in "XxZ":
        return _OFFSET
    if letter == "S":
        return f"(?P<fraction>[0-9]{{1,{max(len(whole), 1)}}})"
    name = _LETTERS.get(letter)
    if name is None or (letter == "M" and len(whole) > 2):  # noqa: PLR2004 -- from three on it is a name
        return None
    if name == "year":
        return f"(?P<year>[0-9]{{{len(whole)}}})" if len(whole) == 4 else None  # noqa: PLR2004 -- a whole year
    return f"(?P<{name}>[0-9]{{{len(whole)}}})" if len(whole) > 1 else f"(?P<{name}>[0-9]{{1,2}})"
