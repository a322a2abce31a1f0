"""What is there in the end, read from the database and the bucket alone: no line of the product is asked.

Rows come by plain SQL over connections of its own, files from the directory that is the bucket. Both are returned as
plain values; what must hold between them is judge.py's.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import make_url

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    """One object of the bucket: its name, its generation, and what is in it."""

    name: str
    generation: int
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Ledger:
    """Everything that was found."""

    tasks: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    skips: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    files: list[File]
    uploads: list[str]


def read(url: str, exports: Path) -> Ledger:
    """Read it all."""
    tables = {
        name: [_plain(row) for row in _rows(url, f'SELECT * FROM "{name}" ORDER BY id')]  # noqa: S608 -- constants
        for name in ("task", "run", "skip", "attempt")
    }
    return Ledger(
        tables["task"], tables["run"], tables["skip"], tables["attempt"], list(_files(exports)), _uploads(exports)
    )


def _rows(url: str, query: str) -> list[dict[str, Any]]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
    plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Instants as instants and documents as documents, whichever database they come from."""
    found = dict(row)
    for name, value in row.items():
        if isinstance(value, int) and (name.endswith(("_at", "occurrence")) or name == "lease_until"):
            found[name] = EPOCH + timedelta(microseconds=value)
        elif isinstance(value, datetime):
            found[name] = value.astimezone(UTC)
        elif isinstance(value, str) and name in {"trigger", "artifact", "definition"}:
            found[name] = json.loads(value)
    return found


def _files(exports: Path) -> Iterator[File]:
    objects = exports / "objects"
    for path in sorted(objects.rglob("*@/*")):
        if path.is_file():
            name = path.parent.relative_to(objects).as_posix().removesuffix("@")
            yield File(name, int(path.name.partition(".")[0]), path.read_bytes())


def _uploads(exports: Path) -> list[str]:
    return sorted(path.name for path in (exports / "uploads").glob("*"))
