"""Dates as documents write them: the instant a date field makes of a JSON value.

The forms are those of Elasticsearch's ``strict_date_optional_time`` and ``epoch_millis``, its defaults, of
``epoch_second``, and those ``date_patterns`` reads; without offset a date is UTC, and a date without time is its first
instant. Called by ``evaluate``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from math import floor

from segments.date_patterns import pattern

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - reckoned in UTC throughout
_MILLISECOND = timedelta(milliseconds=1)
_ISO = re.compile(
    r"(?P<year>-?[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?"
    r"(?:T(?:(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?)?"
    r"(?P<offset>Z|[+-][0-9]{2}(?::?[0-5][0-9])?)?)?)?)?",
    re.ASCII,
)
_PARTS = (("year", "0"), ("month", "1"), ("day", "1"), ("hour", "0"), ("minute", "0"), ("second", "0"))
_USUAL = "strict_date_optional_time||epoch_millis"
_OPTIONAL = frozenset({"date_optional_time", "date_optional_time_nanos", "iso8601"})
_EPOCHS = {"epoch_millis": 1, "epoch_second": 1000}
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
    for alternative in (date_format or _USUAL).split("||"):
        found = _read(text, alternative)
        if found is not None:
            return found
    return None


def _read(text: str, alternative: str) -> int | None:
    """The instant by one alternative of a format; the first that reads a text is the one that counts."""
    if alternative in _EPOCHS:
        return _epoch(text, _EPOCHS[alternative])
    if alternative.removeprefix("strict_") in _OPTIONAL:
        return _iso(text)
    known = pattern(alternative)
    if known is None:
        return _iso(text) if "date" in alternative else None
    found = known.fullmatch(text)
    return None if found is None else _moment(found.groupdict())


def _epoch(text: str, factor: int) -> int | None:
    if not _DIGITS.fullmatch(text):
        return None
    return int(text) * factor if "." not in text else floor(float(text) * factor)


def _iso(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    return None if found is None else _moment(found.groupdict())


def _moment(parts: dict[str, str | None]) -> int | None:
    """The instant of what was read; parts that are missing are their first."""
    year, month, day, hour, minute, second = (int(parts.get(name) or least) for name, least in _PARTS)
    cycles = (-year // _CYCLE + 1) if year < 1 else 0
    try:
        moment = datetime(year + cycles * _CYCLE, month, day, hour, minute, second)  # noqa: DTZ001
    except ValueError:
        return None
    offset = _offset(parts.get("offset") or "Z")
    if abs(offset) > _FURTHEST:
        return None
    fraction = int((parts.get("fraction") or "0").ljust(9, "0")[:9]) // 1_000_000
    elapsed = moment - _EPOCH - timedelta(days=cycles * _CYCLE_DAYS, minutes=offset)
    return elapsed // _MILLISECOND + fraction


def _offset(text: str) -> int:
    """Minutes ahead of UTC."""
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return minutes if text[0] == "+" else -minutes
