"""Waiting for something to become true, with a deadline: the one place where tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


class NeverError(AssertionError):
    """What was waited for did not come; the message has the last value seen."""


def eventually(condition: Callable[[], T], *, timeout: float = 30.0, every: float = 0.05, what: str = "") -> T:
    """Call ``condition`` until it returns something true, and return that.

    Args:
        condition: looked at once more at the deadline; an AssertionError it raises counts as "not yet".
        timeout: seconds; generous, because it is only ever used up by a failing test.
        every: seconds between two looks.
        what: what is waited for, for the message.

    Raises:
        NeverError: the time is over.
    """
    deadline = time.monotonic() + timeout
    pause = Event()
    while True:
        late = time.monotonic() >= deadline
        try:
            last: object = condition()
        except AssertionError as error:
            last = error
        else:
            if last:
                return last  # type: ignore[return-value]
        if late:
            raise NeverError(f"not within {timeout:g} s: {what or condition!r}; last seen: {last!r}")
        pause.wait(every)
