"""The routes that no client of a chain needs a token for: health, metrics, the OpenAPI document, its pages for people.

Declared here and not as `Route`s, because nothing of what a Route does concerns them: no scope, no body, no query. The
documents are made at their first use, once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Flask, Response, render_template_string, request
from markupsafe import Markup, escape

from tasks_service.api import health, monitoring, openapi, reference
from tasks_service.api.calls import Context, Reply
from tasks_service.api.routes import Route, respond
from tasks_service.scrape import CONTENT_TYPE

_HERE = Path(__file__).parent
_CACHED = {"Cache-Control": "public, max-age=300"}
_PAGE_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_CODE = re.compile("`([^`]+)`")


def with_code(text: str) -> Markup:
    """Show what stands in backticks as code; everything is escaped first."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped above


class _Pages:
    """The documents, made once per process by whoever asks first."""

    def __init__(self, routes: Sequence[Route], server: str) -> None:
        self._routes = routes
        self._server = server
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None
        self._reference: str | None = None

    def document(self) -> dict[str, Any]:
        with self._lock:
            if self._document is None:
                self._document = openapi.document(self._routes, server=self._server)
            return self._document

    def reference(self) -> str:
        document = self.document()
        with self._lock:
            if self._reference is None:
                template = (_HERE / "templates" / "reference.html").read_text(encoding="utf-8")
                self._reference = render_template_string(template, page=reference.page(document))
            return self._reference


def add(app: Flask, context: Context, routes: Sequence[Route]) -> None:
    """Make the application answer the open routes."""
    app.add_template_filter(with_code)
    pages = _Pages(routes, context.services.settings.service.public_url.rstrip("/"))

    def healthz() -> Response:
        return respond(health.health(context))

    def readyz() -> Response:
        return respond(health.readiness(context))

    def metrics() -> Response:
        return Response(monitoring.metrics(context, request.headers.get("Authorization")), content_type=CONTENT_TYPE)

    def openapi_json() -> Response:
        return respond(Reply(pages.document(), headers=_CACHED))

    def docs() -> Response:
        response = Response(pages.reference(), content_type="text/html; charset=utf-8")
        response.headers.update(_CACHED)
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
        return response

    def stylesheet() -> Response:
        text = (_HERE / "assets" / "reference.css").read_text(encoding="utf-8")
        return Response(text, content_type="text/css; charset=utf-8", headers=_CACHED)

    for path, view in (
        ("/healthz", healthz),
        ("/readyz", readyz),
        ("/metrics", metrics),
        ("/openapi.json", openapi_json),
        ("/docs", docs),
        ("/docs/reference.css", stylesheet),
    ):
        app.add_url_rule(path, f"GET {path}", view, methods=["GET"])
