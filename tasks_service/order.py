"""One attempt's work, as plain values: what to read, what to make of it, where to write.

The runner makes it from a claim; export.py carries it out and artifacts/ lays down what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tasks_service.config import IndexSettings
from tasks_service.errors import ZoneGoneError
from tasks_service.zones import Rules


@dataclass(frozen=True)
class ExportOrder:
    """One attempt's work.

    Attributes:
        segment: its rules; None for every row of the chain.
        zone: the name of its time zone.
        clock: that zone, by the rules that hold for the whole service; None where nobody knows it any more.
        output_rules: the rules of the zone in which the file's instants are written; None where it asks for none.
        now: the run's occurrence, from which relative rules are measured.
        folder: where in the storage the attempt writes, and no other.
        file_name: what the result is called as a whole.
        buffer_bytes: bytes of encoded pages that may wait for the upload.
        saved_segment: id and version of the saved segment that `segment` was read from.
        most_files: how many files the result may be split into.
        part_rows: documents above which the export is divided, into parts of about so many; 0: never.
    """

    task: int
    run: int
    chain: int
    index: IndexSettings
    target: dict[str, Any]
    segment: dict[str, Any] | None
    zone: str
    clock: ZoneInfo | None
    now: datetime
    folder: str
    file_name: str
    readers: int
    buffer_bytes: int
    saved_segment: tuple[int, int] | None = None
    most_files: int = 1
    part_rows: int = 0
    output_rules: Rules | None = None

    def local(self) -> ZoneInfo:
        """Return the clock by which the order's days begin; raise ZoneGoneError where there is none."""
        if self.clock is None:
            raise ZoneGoneError(
                f"The zone data of the service has no zone `{self.zone}` any more; send the task a `trigger` with "
                "another `timezone`, then run it again."
            )
        return self.clock

    @property
    def object_name(self) -> str:
        """The object of the whole, where the result is one file: noted before the first byte (runner.py)."""
        return f"{self.folder}/{self.file_name}"

    @property
    def compression(self) -> str:
        """The compression of its files."""
        return self.target.get("compression") or "none"
