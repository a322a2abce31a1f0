"""The indices as Elasticsearch wants them described, and as DuckDB does. Made from ``fields``; pure."""

from __future__ import annotations

from typing import Any

from tasks_service.indices.fields import INDICES, LONGEST_KEYWORD

UNKNOWN_STRINGS = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
_UNKNOWN_NUMBERS = {"coerce": False, "ignore_malformed": True}


def mapping(index: str) -> dict[str, Any]:
    """The ``mappings`` of an index whose fields are all known. Others are refused: a slip must not hide."""
    return {"dynamic": "strict", "properties": _properties(index)}


def template(index: str) -> dict[str, Any]:
    """The ``template`` of an index template: the known fields exact, unknown ones mapped so that nothing is refused.

    An unknown string is a keyword, never a date: a date field would refuse the first value that is none. An unknown
    number that does not fit the field its first value made (5.7 after 5) is left out of the index and counted by the
    service, where Elasticsearch's own default would index 5 for it.
    """
    return {
        "settings": {"index.mapping.total_fields.ignore_dynamic_beyond_limit": True},
        "mappings": {
            "date_detection": False,
            "dynamic_templates": [
                _dynamic("string", UNKNOWN_STRINGS),
                _dynamic("long", {"type": "long", **_UNKNOWN_NUMBERS}),
                _dynamic("double", {"type": "double", **_UNKNOWN_NUMBERS}),
                _dynamic("boolean", {"type": "boolean", "ignore_malformed": True}),
            ],
            "properties": _properties(index),
        },
    }


def structure(index: str) -> dict[str, object]:
    """The fields of an index with their DuckDB types, as ``from_json`` takes them."""
    return {name: field.structure() for name, field in INDICES[index].items()}


def _properties(index: str) -> dict[str, Any]:
    return {name: field.mapping() for name, field in INDICES[index].items()}


def _dynamic(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {f"unknown_{kind}s": {"match_mapping_type": kind, "mapping": spec}}
