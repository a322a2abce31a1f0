"""GET /healthz and /readyz: is this process alive, and can it serve. Open to everybody, and brief.

Alive means that its loops tick and its database answers: where not, restarting the process may help. Ready means that
what it depends on can be used: where not, waiting may help. The words come from the parts' own errors, which are
written for callers; nothing of a backend is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from tasks_service.api.calls import Context, Reply
from tasks_service.app import Services
from tasks_service.database import schema
from tasks_service.errors import ServiceError

log = structlog.stdlib.get_logger(__name__)
Check = dict[str, Any]


def health(context: Context) -> Reply:
    """Answer whether this process is alive."""
    loops = [
        {"name": name, "ok": alive, "detail": "ticking" if alive else "has not ticked for three intervals"}
        for name, alive in context.loops().items()
    ]
    return _reply([*loops, _check("database", lambda: _answers(context.services))])


def readiness(context: Context) -> Reply:
    """Answer whether this process can serve."""
    services = context.services
    return _reply(
        [
            _check("database", lambda: schema.require_current(services.database, or_newer=True)),
            _check("source", services.source.check),
            _check("storage", lambda: services.storage.check(writing=False)),
        ]
    )


def _answers(services: Services) -> None:
    with services.database.read() as session:
        services.database.now(session)


def _check(name: str, check: Callable[[], None]) -> Check:
    try:
        check()
    except ServiceError as error:
        return {"name": name, "ok": False, "detail": error.detail}
    except Exception:
        # Written by nobody for callers: the log has it.
        log.exception("health.unexpected_error", part=name)
        return {"name": name, "ok": False, "detail": "The check itself failed; the service's log has the details."}
    return {"name": name, "ok": True, "detail": "ok"}


def _reply(checks: Sequence[Check]) -> Reply:
    well = all(check["ok"] for check in checks)
    return Reply({"status": "ok" if well else "failing", "checks": list(checks)}, 200 if well else 503)
