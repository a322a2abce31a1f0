"""Dates as documents write them: the instant a date field makes of a JSON value.

The forms are those of Elasticsearch's ``strict_date_optional_time`` and ``epoch_millis``, its defaults, and
of ``epoch_second``; without offset a date is UTC, and a date without time is its first instant. Called by
``evaluate``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from math import floor

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - reckoned in UTC throughout
_MILLISECOND = timedelta(milliseconds=1)
_ISO = re.compile(
    r"(-?[0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?"
    r"(?:T(?:([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?(Z|[+-][0-9]{2}(?::?[0-5][0-9])?)?)?)?)?",
    re.ASCII,
)
_CYCLE, _CYCLE_DAYS = 400, 146_097  # after so many years, and days, the calendar repeats
_FURTHEST = 18 * 60  # minutes an offset may be from UTC
_DIGITS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)


def instant(value: object, date_format: str = "") -> int | None:
    """Milliseconds since 1970 in UTC, rounded down; None for what is no date.

    Args:
        value: a string or number of a document.
        date_format: the mapping's ``format``; the default reads ISO 8601 and milliseconds.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else repr(value)
    # Four digits are a year, unless the mapping reads nothing but epochs.
    if "date" in (date_format or "date") and _ISO.fullmatch(text):
        return _iso(text)
    return _epoch(text, date_format)


def _epoch(text: str, date_format: str) -> int | None:
    if not _DIGITS.fullmatch(text):
        return None
    factor = 1000 if "epoch_second" in date_format.split("||") else 1
    return int(text) * factor if "." not in text else floor(float(text) * factor)


def _iso(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (
        int(part or least) for part, least in zip(found.groups(), "011000", strict=False)
    )
    cycles = (-year // _CYCLE + 1) if year < 1 else 0
    try:
        moment = datetime(year + cycles * _CYCLE, month, day, hour, minute, second)  # noqa: DTZ001
    except ValueError:
        return None
    offset = _offset(found[8] or "Z")
    if abs(offset) > _FURTHEST:
        return None
    fraction = int((found[7] or "0").ljust(9, "0")[:9]) // 1_000_000
    elapsed = moment - _EPOCH - timedelta(days=cycles * _CYCLE_DAYS, minutes=offset)
    return elapsed // _MILLISECOND + fraction


def _offset(text: str) -> int:
    """Minutes ahead of UTC."""
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return minutes if text[0] == "+" else -minutes
