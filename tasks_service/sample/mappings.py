"""The sample indices as Elasticsearch wants them described, and as DuckDB does. Made from ``fields``."""

from __future__ import annotations

from typing import Any

from tasks_service.sample.fields import INDICES


def mapping(index: str) -> dict[str, Any]:
    """The ``mappings`` of a sample index. Unknown fields are refused: a slip of the generator must not hide."""
    return {
        "dynamic": "strict",
        "properties": {name: field.mapping() for name, field in INDICES[index].items()},
    }


def structure(index: str) -> dict[str, object]:
    """The fields of a sample index with their DuckDB types, as ``from_json`` takes them."""
    return {name: field.structure() for name, field in INDICES[index].items()}
