"""GET /metrics: who may ask, and counting every answer of the application by the template of its route.

Who may: whoever sends `metrics.token`, or an operator's token with tasks:read; everybody where `metrics.access` is
`open`. Not the callers from this host: behind a proxy that runs here, everybody is one. What is answered is scrape.py.
"""

from __future__ import annotations

from time import perf_counter

from flask import Flask, Response, g, request

from tasks_service import metrics as measured
from tasks_service.api.auth import principal_of
from tasks_service.api.calls import Context
from tasks_service.api.routes import READ
from tasks_service.errors import ForbiddenError
from tasks_service.scrape import exposition, may_scrape

_UNKNOWN = "none"
"""The route of requests for which there is none: their paths are whatever callers think of."""


def metrics(context: Context, authorization: str | None) -> bytes:
    """Return the metrics to those who may read them; NotAuthenticatedError and ForbiddenError for others."""
    if not may_scrape(context.services.settings.metrics, authorization):
        principal = principal_of(context.services.database, authorization, scope=READ)
        if principal.chain is not None:
            raise ForbiddenError("Metrics are about every chain; send an operator's token, or `metrics.token`.")
    return exposition(context.services.database)


def install(app: Flask) -> None:
    """Count and time every answer, errors too."""

    def begin() -> None:
        g.begun = perf_counter()

    def count(response: Response) -> Response:
        rule = request.url_rule
        # Endpoints are named by method and template; a method nobody declared has no rule.
        route = rule.endpoint.partition(" ")[2] or rule.endpoint if rule is not None else _UNKNOWN
        method = request.method if rule is not None else _UNKNOWN
        measured.HTTP_REQUESTS.count(method=method, route=route, status=str(response.status_code))
        measured.HTTP_SECONDS.observe(perf_counter() - g.begun, method=method, route=route)
        return response

    app.before_request(begin)
    app.after_request(count)
