"""Instants of the sample data: spread over the two years before the data set's end, with a busy last day.

A moment is a number of milliseconds since 1970, as the documents are dated to the millisecond at most.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from tasks_service.sample.draws import Draws

SECOND = 1000
DAY = 24 * 3600 * SECOND
SPREAD_SECONDS = 730 * 24 * 3600
DAY_SECONDS = 24 * 3600
BUSY = 12  # one row in so many lies in the last 24 hours
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1).toordinal()


def milliseconds(instant: datetime) -> int:
    """The moment of an aware instant."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


@lru_cache(maxsize=4096)
def _day(days: int) -> str:
    return date.fromordinal(_FIRST_DAY + days).isoformat()


def text(moment: int) -> str:
    """ISO 8601 in UTC; whole seconds are written without a fraction, as real systems mix them."""
    seconds, left = divmod(moment, SECOND)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if left:
        return f"{_day(days)}T{hour:02}:{minute:02}:{second:02}.{left:03}Z"
    return f"{_day(days)}T{hour:02}:{minute:02}:{second:02}Z"


def past(draws: Draws, until: int) -> int:
    """A moment before ``until``; whole seconds in three cases of four."""
    drawn = draws.below(BUSY * 4000)
    window = SPREAD_SECONDS if drawn % BUSY else DAY_SECONDS
    moment = until - SECOND * (1 + draws.below(window))
    return moment if drawn >= BUSY * SECOND else moment + drawn // BUSY


def later(draws: Draws, moment: int, days: int) -> int:
    """A moment up to so many days after another, by whole seconds."""
    return moment + SECOND * draws.below(days * DAY_SECONDS)
