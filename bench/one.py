"""One measured export in a process of its own: prints rows, seconds, CPU seconds and peak resident memory as JSON.

Called by bench/export.py, which compares; never by hand. What is measured is `run_export` itself, from the source to
the finished file in a local directory, or one of its peers reading the same documents.
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench.drain import drain as raw_drain
from segments import EVERYTHING
from tasks_service.config import ElasticsearchSettings, FilesSettings, IndexSettings, LocalSettings
from tasks_service.export import run_export
from tasks_service.order import ExportOrder
from tasks_service.progress import Progress
from tasks_service.sources import Source
from tasks_service.storage.local import LocalStorage

CHAIN = 1764
QUERY = {"bool": {"filter": [{"term": {"chain_id": CHAIN}}]}}
FLAT = ["id", "owner_code", "name", "category", "price", "stock"]


def source_of(kind: str, where: str) -> Source:
    if kind == "files":
        from tasks_service.sources.files import FilesSource

        return FilesSource(FilesSettings(directory=Path(where)), catalog_seconds=30)
    from tasks_service.sources.elasticsearch import ElasticsearchSource

    return ElasticsearchSource(ElasticsearchSettings(urls=[where]), catalog_seconds=30)


def export(source: Source, index: IndexSettings, *, what: str, readers: int) -> int:
    """The engine itself, end to end; `csv-flat` is a csv of six columns."""
    export_format, _, flat = what.partition("-")
    with tempfile.TemporaryDirectory() as directory:
        storage = LocalStorage(LocalSettings(directory=Path(directory)), public_url="http://x", secret_key=b"x" * 32)
        order = ExportOrder(
            task=1,
            run=1,
            chain=CHAIN,
            index=index,
            target={
                "action": "export",
                "export_index": "products",
                "export_format": export_format,
                "columns": FLAT if flat else None,
            },
            segment=None,
            zone="UTC",
            clock=ZoneInfo("UTC"),
            now=datetime.now(UTC),
            folder="bench",
            file_name="file",
            readers=readers,
            buffer_bytes=32 * 1024 * 1024,
        )
        exported = run_export(order, source, storage, _ignore)
        assert exported.artifact is not None
        return int(exported.artifact["rows"])


def _ignore(_: Progress) -> None:
    return


def drain(source: Source, index: IndexSettings, *, readers: int) -> int:
    """The source alone: its pages, thrown away."""
    counts: list[int] = []
    with source.open(index, EVERYTHING, chain=CHAIN, limit=None) as snapshot:
        threads = [
            threading.Thread(target=lambda pages=pages: counts.append(sum(len(page) for page in pages)))
            for pages in snapshot.partitions(readers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts)


def scan(url: str, index: IndexSettings) -> int:
    """The peer everybody writes first: `helpers.scan` and the csv module."""
    from elasticsearch import Elasticsearch
    from elasticsearch.helpers import scan as scan_documents

    client = Elasticsearch(url)
    rows = 0
    with tempfile.TemporaryFile("w", newline="") as file:
        writer = csv.writer(file)
        for hit in scan_documents(client, index=index.source, query={"query": QUERY}):
            document: dict[str, Any] = hit["_source"]
            writer.writerow(
                [json.dumps(value) if isinstance(value, dict | list) else value for value in document.values()]
            )
            rows += 1
    return rows


def cpu_seconds() -> float:
    """CPU seconds this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Peak resident memory of this program; getrusage's would count the process that forked it, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    what, kind, where, name, readers = sys.argv[1:6]
    index = IndexSettings(file_prefix="Product", source=name)
    source = source_of(kind, where)
    ways: dict[str, Callable[[], int]] = {
        "drain": lambda: drain(source, index, readers=int(readers)),
        "raw": lambda: raw_drain(where, name, QUERY, readers=int(readers)),
        "scan": lambda: scan(where, index),
    }
    started, before = time.perf_counter(), cpu_seconds()
    rows = ways.get(what, lambda: export(source, index, what=what, readers=int(readers)))()
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "rows": rows,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds() - before,
                "peak_mib": peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main()
