"""GET /processes: who works here, for operators.

What lives here: the list as the contract shows it. What does not: writing it (presence.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.cursors import Pages
from tasks_service.api.routes import READ, Route, Success
from tasks_service.database import processes
from tasks_service.database.models import Process
from tasks_service.errors import ForbiddenError
from tasks_service.process_schemas import ProcessPage
from tasks_service.schemas import PageQuery


def list_processes(call: Call) -> Reply:
    """Answer a page of the service's processes, the ones started last first."""
    if call.principal.chain is not None:
        raise ForbiddenError("Only an operator's token may ask for this.")
    query = call.query(PageQuery)
    pages = Pages(call.services.secret_key, "/processes", {}, call.principal.client_id)
    position = pages.position(query.cursor)
    with call.services.database.read() as session:
        now = call.services.database.now(session)
        rows, more = processes.list_processes(
            session, limit=query.limit, after=position.after, direction=position.direction
        )
    base = call.services.settings.service.public_url
    links = pages.links([row.id or 0 for row in rows], position, more=more, limit=query.limit, base=base)
    return Reply({"results": [_shown(row, now) for row in rows], **links})


def _shown(process: Process, now: datetime) -> dict[str, Any]:
    return {
        "name": process.name,
        "kind": process.kind,
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "state": process.state,
        "run": process.run_id,
        "started_at": shapes.moment(process.started_at),
        "seen_at": shapes.moment(process.seen_at),
        "late": processes.is_late(process, now=now),
    }


ROUTES = (
    Route(
        "GET",
        "/processes",
        list_processes,
        READ,
        summary="List the service's processes",
        description=(
            "Who they are, what they do and when they were last seen, the ones started last first. For operators. A "
            "process says every ten seconds that it is there; one that ends as it should leaves the list at once, any "
            "other shows as `late` after half a minute and is forgotten after a day."
        ),
        answers=[Success(200, "A page of processes.", ProcessPage)],
        query=PageQuery,
        errors=[ForbiddenError],
        tag="Processes",
    ),
)
