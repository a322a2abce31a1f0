"""One attempt's work for tests that export without a runner: every row of one chain, unless told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tasks_service.config import IndexSettings
from tasks_service.order import ExportOrder


def order_of(target: dict[str, Any], **changes: Any) -> ExportOrder:
    """Return an order for that target."""
    values: dict[str, Any] = {
        "task": 1,
        "run": 1,
        "chain": 1764,
        "index": IndexSettings(file_prefix="Product", source="products"),
        "target": {"action": "export", "export_index": "products", "export_format": "jsonl"} | target,
        "segment": None,
        "zone": "UTC",
        "clock": ZoneInfo(changes.get("zone", "UTC")),
        "now": datetime(2026, 5, 26, tzinfo=UTC),
        "folder": "exports/1764/1/1/1-1",
        "file_name": "Product_Export-1.jsonl",
        "readers": 1,
        "buffer_bytes": 1 << 20,
        "most_files": 100,
    }
    return ExportOrder(**(values | changes))
