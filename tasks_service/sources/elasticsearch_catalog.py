"""The mappings of an index, or of the indices behind an alias, as one catalogue. Pure; called by elasticsearch.py."""

from __future__ import annotations

from typing import Any, cast

from segments import Catalog
from tasks_service.errors import SourceError


def read_catalog(mappings: dict[str, Any], sources: dict[str, Any]) -> Catalog:
    """Return the catalogue of what `GET INDEX/_mapping` answered.

    Args:
        mappings: index name -> {"mappings": {...}}.
        sources: index name -> {"settings": {...}} with flat names, for the mode of `_source`.

    Raises:
        SourceError: there is no index, or one that does not keep documents as they were sent.
    """
    if not mappings:
        raise SourceError("Elasticsearch has no such index.")
    catalogs: list[Catalog] = []
    for name, answer in mappings.items():
        mapping = cast("dict[str, Any]", answer["mappings"])
        _check_source(mapping.get("_source", {}), _setting(sources.get(name, {})))
        catalogs.append(Catalog.from_mapping(mapping.get("properties", {}), doubts_counted=True))
    return catalogs[0] if len(catalogs) == 1 else Catalog.merged(catalogs)


def _setting(answer: dict[str, Any]) -> str:
    return str(answer.get("settings", {}).get("index.mapping.source.mode", "stored"))


def _check_source(source: dict[str, Any], mode: str) -> None:
    """Refuse an index whose `_source` is off, rebuilt by the server, or a part of the document."""
    disabled = source.get("enabled", True) in {False, "false"} or source.get("mode", "stored") != "stored"
    if disabled or mode != "stored" or source.get("includes") or source.get("excludes"):
        raise SourceError(
            "The index does not keep its documents as they were sent (`_source` is disabled, synthetic or filtered), "
            "so that it cannot be exported."
        )
