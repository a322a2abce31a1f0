"""What a leaf of a tree asks of a value, in words: the end of a sentence that begins with "a value that".

The words are made from the checked tree, with its moments resolved, so that they say what the queries ask and not what
somebody wrote. Called by ``explain``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from segments.errors import listed, shown
from segments.tree import Compare, Exists, Leaf, OneOf, Period, Range, Scalar, Text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NAMED = 5
_COMPARED = {
    "eq": "equals {}",
    "gt": "is greater than {}",
    "ge": "is {} or greater",
    "lt": "is less than {}",
    "le": "is {} or less",
}


def phrase(leaf: Leaf) -> str:
    """What the leaf asks, such as ``equals "Electronics"``."""
    match leaf:
        case Compare(op=op, value=value):
            return _COMPARED[op].format(shown(value))
        case OneOf(values=values):
            return f"is {_one_of(values)}"
        case Range(low=low, high=high):
            return _between("is", low, high)
        case Period(start=start, end=end):
            return _period(start, end)
        case Text(placing=placing, needles=needles):
            return f"{placing.replace('_', ' ')} {_one_of(needles)}, case folded"
        case Exists():
            return "is not null"


def _one_of(values: Sequence[Scalar]) -> str:
    if len(values) == 1:
        return shown(values[0])
    more = len(values) - _NAMED
    named = [shown(value) for value in values[:_NAMED]]
    return "one of " + listed([*named, f"{more} more"] if more > 0 else named)


def _between(verb: str, low: object, high: object) -> str:
    if low is None:
        return f"{verb} {shown(high)} or less"
    return f"{verb} {shown(low)} or greater" if high is None else f"lies from {shown(low)} to {shown(high)}"


def _period(start: int | None, end: int | None) -> str:
    if start is not None and end is not None:
        if start >= end:
            return "lies in a window that is empty"
        return f"lies from {_moment(start)} to before {_moment(end)}"
    if start is not None:
        return f"is {_moment(start)} or later"
    return "is any moment" if end is None else f"is before {_moment(end)}"


def _moment(milliseconds: int) -> str:
    try:
        moment = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        return f"{milliseconds} milliseconds since 1970"
    finest = "milliseconds" if moment.microsecond else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=finest) + "Z"
