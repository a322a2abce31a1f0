"""The HTTP API over the composed services: `register` makes a Flask application answer it.

What lives here: which routes there are. What does not: what they do. Nothing happens at import; app.py calls
`register` once per process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from tasks_service.app import Services

_WAITING_SHARE = 4
"""One of so many web threads may wait for the end of a run."""


def register(
    app: Flask,
    services: Services,
    *,
    pause: Callable[[float], None] | None = None,
    loops: Callable[[], Mapping[str, bool]] | None = None,
) -> None:
    """Make the application answer the API.

    `pause` waits so many seconds (tests give one that does not); `loops` tells which supervised loops of this process
    tick, by name, for /healthz.
    """
    from tasks_service.api import monitoring, open_routes, problems, routes
    from tasks_service.api.backfill_routes import BACKFILL_ROUTES
    from tasks_service.api.calls import Context
    from tasks_service.api.explanations import ROUTES as EXPLANATION_ROUTES
    from tasks_service.api.indices import ROUTES as INDEX_ROUTES
    from tasks_service.api.occurrences import ROUTES as OCCURRENCE_ROUTES
    from tasks_service.api.processes import ROUTES as PROCESS_ROUTES
    from tasks_service.api.saved_segments_routes import SAVED_SEGMENT_ROUTES
    from tasks_service.api.segments import ROUTES as SEGMENT_ROUTES
    from tasks_service.api.task_routes import TASK_ROUTES

    seats = threading.Semaphore(services.settings.web.threads // _WAITING_SHARE)
    context = Context(services, seats, pause or _pause, loops or _no_loops)
    declared = (
        *TASK_ROUTES,
        *OCCURRENCE_ROUTES,
        *BACKFILL_ROUTES,
        *INDEX_ROUTES,
        *SAVED_SEGMENT_ROUTES,
        *SEGMENT_ROUTES,
        *EXPLANATION_ROUTES,
        *PROCESS_ROUTES,
    )
    routes.prepare(app)
    monitoring.install(app)
    problems.install(app)
    for route in declared:
        routes.add(app, context, route)
    open_routes.add(app, context, declared)
    _add_files(app, services)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _no_loops() -> Mapping[str, bool]:
    return {}


def _add_files(app: Flask, services: Services) -> None:
    """Serve local links where the storage is a local directory."""
    if services.settings.storage.kind == "local":
        from tasks_service.api import files
        from tasks_service.storage.local import LocalStorage

        if isinstance(services.storage, LocalStorage):
            app.register_blueprint(files.blueprint(services.storage))
