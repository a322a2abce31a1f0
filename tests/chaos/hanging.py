"""A worker that hangs once, where it is told to: `python -m tests.chaos.hanging POINT HOW SECONDS`.

What lives here: the command line's own worker, struck the first time it comes to a fault point by a call that does not
return for so many seconds, with the interpreter lock kept (`held`) or given away (`blocked`). Started by test_beater.py
and test_divided_runs.py.
"""

from __future__ import annotations

import ctypes
import itertools
import sys

from tasks_service.cli import main
from tasks_service.fault_points import strike_with

_CALLS = {"held": ctypes.PyDLL(None).sleep, "blocked": ctypes.CDLL(None).sleep}
"""The C library's sleep: the one is called with the interpreter lock kept, as a long regular expression keeps it."""


def hang(point: str, how: str, seconds: int) -> None:
    times = itertools.count()

    def strike(name: str) -> None:
        if name == point and next(times) == 0:
            sys.stdout.write('{"event": "test.hangs"}\n')
            sys.stdout.flush()
            _CALLS[how](seconds)

    strike_with(strike)


if __name__ == "__main__":
    hang(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv[1:] = ["worker"]
    main()
