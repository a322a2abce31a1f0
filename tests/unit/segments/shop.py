"""A small shop as an Elasticsearch mapping and as DuckDB columns, and short words to write segments with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from segments import Catalog, SegmentError, Tree, compile_segment

NOW = datetime(2026, 3, 31, 10, 0, 0, tzinfo=UTC)
AMSTERDAM = ZoneInfo("Europe/Amsterdam")

PROPERTIES: dict[str, Any] = {
    "category": {"type": "keyword"},
    "chain_id": {"type": "long"},
    "created": {"type": "date"},
    "description": {"type": "text"},
    "name": {"type": "text", "fields": {"exact": {"type": "keyword"}}},
    "price": {"type": "double"},
    "stock": {"type": "integer"},
    "active": {"type": "boolean"},
    "address": {"properties": {"city": {"type": "keyword"}}},
    "line_items": {
        "type": "nested",
        "properties": {"sku": {"type": "keyword"}, "quantity": {"type": "integer"}, "at": {"type": "date"}},
    },
}
COLUMNS = [
    ("category", "VARCHAR"),
    ("chain_id", "BIGINT"),
    ("created", "TIMESTAMP"),
    ("description", "VARCHAR"),
    ("name", "VARCHAR"),
    ("price", "DOUBLE"),
    ("stock", "INTEGER"),
    ("active", "BOOLEAN"),
    ("address", "STRUCT(city VARCHAR)"),
    ("line_items", 'STRUCT(sku VARCHAR, quantity INTEGER, "at" TIMESTAMP)[]'),
]
MAPPED = Catalog.from_mapping(PROPERTIES)
TABLED = Catalog.from_columns(COLUMNS)
SUPPLIERS = {"id": {"type": "long"}, "code": {"type": "keyword"}, "city": {"type": "keyword"}}
OTHERS_MAPPED = {"suppliers": Catalog.from_mapping(SUPPLIERS)}
OTHERS_TABLED = {"suppliers": Catalog.from_columns([("id", "BIGINT"), ("code", "VARCHAR[]"), ("city", "VARCHAR")])}


def segment(*rules: object, **members: object) -> dict[str, Any]:
    """A segment of these rules, all of them unless ``join`` says otherwise."""
    whole = {"entity": "people", "index": "products", "join": "all", "chain_id": 1764, "rules": list(rules)}
    return {**whole, **members}


def rule(field_name: str, field_type: str, operator: str, value: object = ..., **members: object) -> dict[str, Any]:
    given = {} if value is ... else {"value": value}
    return {"field_name": field_name, "field_type": field_type, "operator": operator, **given, **members}


def item(field_name: str, field_type: str, operator: str, value: object = ..., **members: object) -> dict[str, Any]:
    """A rule about nested line items."""
    inner = rule(f"line_items.{field_name}", field_type, operator, value, **members)
    return {**inner, "nested": True, "nesting_path": "line_items"}


def group(join: str, *rules: object, **members: object) -> dict[str, Any]:
    return {"join": join, "rules": list(rules), **members}


def compiled(
    *rules: object, catalog: Catalog = MAPPED, now: datetime = NOW, zone: ZoneInfo = AMSTERDAM, **members: object
) -> Tree:
    others = OTHERS_TABLED if catalog is TABLED else OTHERS_MAPPED
    return compile_segment(segment(*rules, **members), catalog, others, now=now, zone=zone)


def faults(raw: object, catalog: Catalog = MAPPED) -> list[tuple[str, str]]:
    """Pointer and code of everything wrong."""
    try:
        compile_segment(raw, catalog, now=NOW, zone=AMSTERDAM)
    except SegmentError as error:
        return [(fault.pointer, fault.code) for fault in error.faults]
    return []
