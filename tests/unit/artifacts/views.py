"""A frozen view of documents, as a snapshot tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from segments import Catalog

CATALOG = Catalog.from_columns([("id", "BIGINT"), ("chain_id", "BIGINT"), ("name", "VARCHAR")])


@dataclass
class View:
    total: int = 3
    taken_at: datetime = datetime(2026, 5, 26, 12, 0, 0, 123456, tzinfo=UTC)
    query: dict[str, Any] = field(default_factory=lambda: {"bool": {"filter": [{"term": {"chain_id": 1764}}]}})
    catalog: Catalog = CATALOG
