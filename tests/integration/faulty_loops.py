"""A process of the service whose loops fail: their bodies raise so many times, or never return.

Run as `python -m tests.integration.faulty_loops COMMAND raise|hang TARGET...`; TARGET is `module:attribute`. Where they
hang, intervals are short, so that three of them have passed soon.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

from tasks_service import loops, zone_changes
from tasks_service.database import engine, processes

RAISED = 3
INTERVAL_SECONDS = 1.0


class Fault(BaseException):
    """Not even an Exception."""


def spoil(target: str, fault: str) -> None:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *names, last = path.split(".")
    for name in names:
        owner = getattr(owner, name)
    body = getattr(owner, last)
    left = RAISED

    def spoilt(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        if fault == "hang":
            threading.Event().wait()
        if left:
            left -= 1
            raise (RuntimeError if owner.__name__ == "Scheduler" else Fault)("a defect")
        return body(*arguments, **named)

    setattr(owner, last, spoilt)


def main() -> None:
    command, fault, *targets = sys.argv[1:]
    processes.SEEN_SECONDS = zone_changes.EVERY_SECONDS = INTERVAL_SECONDS  # before they are imported by name
    if fault == "hang":
        loops.LONGEST_LOOK_SECONDS = engine.RETRY_SECONDS = INTERVAL_SECONDS
    for target in targets:
        spoil(target, fault)
    sys.argv[1:] = [command]
    importlib.import_module("tasks_service.cli").main()


if __name__ == "__main__":
    main()
