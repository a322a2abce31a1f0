"""What APScheduler calls in bench/scheduling.py: a job names it by its module, as every stored job must."""

from __future__ import annotations

import time

FIRED: list[float] = []
"""When each job was called, by the wall clock."""


def note() -> None:
    FIRED.append(time.time())
