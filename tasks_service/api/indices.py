"""GET /export_indices and /export_indices/{name}: what can be exported, and which rules each field takes.

What lives here: the catalogue as the contract shows it. What does not: reading it (sources/).
"""

from __future__ import annotations

from typing import Any

import structlog

from tasks_service.api import shapes
from tasks_service.api.bodies import nearest
from tasks_service.api.calls import Call, Reply
from tasks_service.api.routes import READ, Route, Success
from tasks_service.errors import NotFoundError, SourceError, SourceUnavailableError
from tasks_service.formats.registry import FORMATS
from tasks_service.schemas import ExportIndex, ExportIndexPage

log = structlog.stdlib.get_logger(__name__)


def list_export_indices(call: Call) -> Reply:
    """Answer every index that the source offers, with its fields."""
    results: list[dict[str, Any]] = []
    for name in call.services.settings.indices:
        try:
            results.append(_index(call, name))
        except SourceUnavailableError:
            raise
        except SourceError as error:
            # Configured, but not in the source: it cannot be exported, and the others can.
            log.warning("index.not_offered", index=name, detail=error.detail)
    return Reply({"results": results, "next": None, "previous": None})


def get_export_index(call: Call) -> Reply:
    """Answer one index with its fields."""
    name: str = call.path["name"]
    known = list(call.services.settings.indices)
    if name not in known:
        raise NotFoundError(f"There is no such export index. {nearest(name, known)}")
    return Reply(_index(call, name))


def _index(call: Call, name: str) -> dict[str, Any]:
    index = call.services.settings.indices[name]
    return {
        "name": name,
        "file_prefix": index.file_prefix,
        "formats": list(FORMATS),
        "fields": [shapes.field(field) for field in call.services.source.catalog(index).fields],
    }


ROUTES = (
    Route(
        "GET",
        "/export_indices",
        list_export_indices,
        READ,
        summary="List what can be exported",
        description="Every export index with its fields, and the operators a rule may use on each.",
        answers=[Success(200, "All indices.", ExportIndexPage)],
        errors=[SourceError, SourceUnavailableError],
        tag="Export indices",
    ),
    Route(
        "GET",
        "/export_indices/{name}",
        get_export_index,
        READ,
        summary="Get an export index",
        description="One export index with its fields.",
        answers=[Success(200, "The index.", ExportIndex)],
        errors=[SourceError, SourceUnavailableError],
        tag="Export indices",
    ),
)
