"""What a result's file is called. Pure: no clock, no storage.

The name is part of the HTTP contract (partners match on it), and the object in the storage ends with it. Called
by runner.py, which names the object before the first byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tasks_service.config import IndexSettings

_COMPRESSION_EXTENSIONS = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def file_name(
    index: IndexSettings,
    task_id: int,
    trigger: Mapping[str, Any],
    occurrence: datetime,
    export_format: str,
    compression: str,
) -> str:
    """Return the name a run's file is downloaded as.

    `Product_Export-12345.csv`; a cron task has many files, so each carries its occurrence in UTC:
    `Product_Export-12345-20260526T020000Z.csv`. Compression appends its own extension.
    """
    stem = f"{index.file_prefix}_Export-{task_id}"
    if "cron" in trigger:
        stem += f"-{occurrence.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{stem}.{export_format}{_COMPRESSION_EXTENSIONS[compression]}"


def numbered(name: str, number: int) -> str:
    """Return the name of one of a result's numbered files: `Product_Export-12345-0001.csv.gz`, counted from 1."""
    stem, dot, extension = name.partition(".")
    return f"{stem}-{number:04}{dot}{extension}"


def archive_name(name: str) -> str:
    """Return the name of the archive around a result's files: `Product_Export-12345.zip`."""
    return f"{name.partition('.')[0]}.zip"


def manifest_name(name: str) -> str:
    """Return the name of the manifest beside a result: `Product_Export-12345.csv.manifest.json`."""
    return f"{name}.manifest.json"
