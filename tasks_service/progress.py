"""Where an attempt stands, as it is told while it goes. Said by export.py and parts/, heard by lease.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Documents and bytes written so far, the snapshot's exact total, and bytes read back, and pushed."""

    rows: int = 0
    total: int | None = None
    bytes_written: int = 0
    bytes_verified: int = 0
    bytes_pushed: int = 0


Report = Callable[[Progress], None]
"""Called at least once a second; raises StopAttempt when the attempt must end."""
