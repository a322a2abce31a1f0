"""Sample documents as Parquet: a typed column per field, and the raw document beside them.

One directory an index, one file in it, put in place by rename: a reader sees the old file or the new one. Memory is
bounded; the documents pass through a temporary file of JSON lines. DuckDB is imported where it is used.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from tasks_service.indices.fields import INDICES
from tasks_service.indices.mappings import structure
from tasks_service.sample.documents import raw_documents, this_hour

FILE = "part-00000.parquet"
BATCH = 5000
MEMORY_LIMIT = "1GB"
COPY = """
COPY (SELECT unnest(from_json(json, $fields)), json::VARCHAR AS _raw FROM read_ndjson_objects($lines))
TO $target (FORMAT parquet, COMPRESSION zstd)
"""

Progress = Callable[[str, int], None]
"""Called with the index and its rows written so far."""


def rows_by_index(rows: int | Mapping[str, int]) -> dict[str, int]:
    """How many rows each index gets: the same number for all, or the numbers of those that are named.

    Raises:
        KeyError: a name that is no sample index.
    """
    if isinstance(rows, int):
        return dict.fromkeys(INDICES, rows)
    unknown = sorted(rows.keys() - INDICES.keys())
    if unknown:
        raise KeyError(f"no such sample index: {', '.join(unknown)}; there are {', '.join(INDICES)}")
    return dict(rows)


def write_files(
    directory: Path,
    rows: int | Mapping[str, int],
    *,
    seed: int = 0,
    until: datetime | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write sample documents to ``directory/INDEX/part-00000.parquet``.

    Args:
        directory: made if it is not there.
        rows: of each index, or by index.
        seed: see ``documents``.
        until: see ``documents``; one instant for all indices.
        progress: called now and then.

    Returns:
        The rows of each index written.

    Raises:
        KeyError: no such sample index.
        OSError: the directory cannot be written.
    """
    wanted = rows_by_index(rows)
    until = until or this_hour()
    for index, count in wanted.items():
        target = directory / index
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sample-", dir=target) as name:
            lines, made = Path(name) / "documents.ndjson", Path(name) / FILE
            _write_lines(lines, index, count, seed=seed, until=until, progress=progress)
            _to_parquet(index, lines, made, scratch=Path(name))
            made.replace(target / FILE)
    return wanted


def _write_lines(lines: Path, index: str, count: int, *, seed: int, until: datetime, progress: Progress | None) -> None:
    with lines.open("wb") as output:
        for start in range(0, count, BATCH):
            rows = min(BATCH, count - start)
            batch = raw_documents(index, rows, seed=seed, until=until, start=start)
            output.write(b"".join(raw + b"\n" for raw in batch))
            if progress:
                progress(index, start + rows)


def _to_parquet(index: str, lines: Path, made: Path, *, scratch: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET temp_directory = $directory", {"directory": str(scratch)})
        connection.execute("SET TimeZone = 'UTC'")
        # A value that does not fit its column would become null: the tests compare every column with the raw.
        connection.execute(COPY, {"lines": str(lines), "fields": json.dumps(structure(index)), "target": str(made)})
