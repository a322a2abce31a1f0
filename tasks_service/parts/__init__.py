"""Parts of a big export: what they are, and the port of whoever keeps account of them.

A view that is worth it is divided into shares (sources/), and each share becomes an object of its own, a stretch of the
file (writing.py), by whichever worker takes it. The run's attempt takes its own share of the work and waits for the
rest (coordinating.py), and puts the objects together (joining.py). Nothing here knows the database: the account is kept
by a `Board` (dealing.py has the one there is). Called by export.py and helping.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from tasks_service.artifacts import Written
from tasks_service.sources import Division, Share
from tasks_service.storage import StoredObject


@dataclass(frozen=True)
class Plan:
    """How a run is divided; `fingerprint` names what makes the bytes of its parts, `handle` resumes the view."""

    fingerprint: str
    handle: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A stretch of the file that somebody has taken: the `number`th of `parts`, from 0, to be written as `name`.

    `key` is the board's own.
    """

    number: int
    parts: int
    share: Share
    name: str
    folder: str
    key: Any


@dataclass(frozen=True)
class PartFile:
    """A part that is whole, and the object that holds it."""

    rows: int
    documents: int
    suspicious_cells: int
    written: Written
    stored: StoredObject

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        stored = asdict(self.stored) | {"created_at": self.stored.created_at.isoformat()}
        return {**asdict(self), "stored": stored, "bytes": self.written.bytes}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> PartFile:
        """Return what `to_json` wrote."""
        stored = told["stored"] | {"created_at": datetime.fromisoformat(told["stored"]["created_at"])}
        return cls(
            rows=told["rows"],
            documents=told["documents"],
            suspicious_cells=told["suspicious_cells"],
            written=Written(**told["written"]),
            stored=StoredObject(**stored),
        )


@dataclass(frozen=True)
class Standing:
    """How far the parts are, in the order of the file: the whole ones (None: not yet), and what all have written."""

    files: Sequence[PartFile | None]
    documents: int
    bytes: int


class Board(Protocol):
    """Keeps account of the parts of one run, for its attempt. Each call raises LeaseLost where that is another's."""

    def plan(self) -> Plan | None:
        """Return how the run is divided already, perhaps by a former attempt."""
        ...

    def divide(self, fingerprint: str, division: Division) -> None:
        """Divide the run, and call for help."""
        ...

    def give_up(self, reason: str) -> None:
        """Forget the plan and all its parts; say so."""
        ...

    def take(self) -> Part | None:
        """Take the next part; None where others have all that are left."""
        ...

    def finish(self, part: Part, file: PartFile) -> None:
        """Note that a part is whole."""
        ...

    def standing(self) -> Standing:
        """Tell how far the parts are."""
        ...
