"""Every error becomes `application/problem+json` (RFC 9457) here, whichever route it comes from, and none escapes.

What lives here: the document, the handlers, request ids and the headers every answer carries. What does not: deciding
that something is wrong. The detail of an error is written for the caller by whoever raised it; what was not written
for the caller (a bug's traceback, a vendor's text) goes to the log under the request's id and nowhere else.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from tasks_service.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotAuthenticatedError,
    ServiceError,
    TooManyRequestsError,
    TransientError,
)

log = structlog.stdlib.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition failed",
    413: "Content too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    502: "Bad gateway",
    503: "Unavailable",
}
GENERAL: Mapping[int, str] = {
    400: "The request cannot be read.",
    404: "There is nothing here.",
    405: "This route does not know the method; `Allow` lists those it knows.",
    413: "The request is too large.",
    416: "The file has no such range.",
}
"""What any path may answer, whichever route it is or is not."""
CODES: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    500: "internal_error",
}
_DETAILS: Mapping[int, str] = {
    400: "The request cannot be read; send HTTP/1.1 as the documentation at /docs shows it.",
    404: "There is nothing here; the routes are listed at /docs.",
    413: "The request is too large.",
    416: "The file has no such range; ask for bytes that lie inside it.",
    500: "Something unexpected happened in the service; its log has the details under this request's id.",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_UNAVAILABLE_SECONDS = 5
_TOO_MANY_SECONDS = 10


class MalformedError(ServiceError):
    """The body is not JSON."""

    code = "malformed_json"
    http_status = 400


class TooLargeError(ServiceError):
    """The body is too large."""

    code = "too_large"
    http_status = 413


class MediaTypeError(ServiceError):
    """Send the body as JSON, with `Content-Type: application/json`."""

    code = "unsupported_media_type"
    http_status = 415


class InvalidParametersError(InvalidRequestError):
    """The parameters of the request are not valid; `errors` names every fault."""

    code = "invalid_parameters"


class GoingError(ConflictError):
    """A run of this task is going; wait for its end, or cancel it."""

    code = "run_going"


class MembersError(ConflictError):
    """A conflict that tells more than a sentence: extra members of the problem document."""

    def __init__(self, detail: str, **members: Any) -> None:  # noqa: ANN401 -- JSON values
        """Take the sentence and the members."""
        super().__init__(detail)
        self.members = members


def install(app: Flask) -> None:
    """Make every answer of the application carry a request id and safe headers, and every error a problem."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(Exception, _unexpected)


def request_id() -> str:
    """Return the id of the request that is being answered: the caller's own where it is a sane one."""
    found: str | None = g.get("request_id")
    if found is None:
        offered = request.headers.get("X-Request-Id", "")
        found = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        g.request_id = found
    return found


def problem(error: ServiceError) -> dict[str, Any]:
    """Return the problem document of an error."""
    document: dict[str, Any] = {
        "type": f"/docs#problem-{error.code}",
        "title": TITLES.get(error.http_status, "Error"),
        "status": error.http_status,
        "detail": error.detail,
        "code": error.code,
        "instance": request_id(),
    }
    if error.faults:
        document["errors"] = faults_shown(error)
    if isinstance(error, MembersError):
        document.update(error.members)
    return document


def faults_shown(error: ServiceError) -> list[dict[str, str]]:
    """Return an error's faults: of a body by pointer, of a query by parameter; none twice."""
    where = "parameter" if isinstance(error, InvalidParametersError) else "pointer"
    seen: dict[Fault, None] = dict.fromkeys(error.faults)
    return [{where: fault.pointer, "code": fault.code, "detail": fault.detail} for fault in seen]


def _begin() -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id())


def _finish(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = request_id()
    return response


def _service_error(error: ServiceError) -> Response:
    status = error.http_status
    if status >= 500:  # noqa: PLR2004 -- the class of server errors
        log.warning("http.failed", code=error.code, status=status, detail=error.detail)
    response = _respond(problem(error), status)
    if isinstance(error, NotAuthenticatedError):
        invalid = ', error="invalid_token"' if "Authorization" in request.headers else ""
        response.headers["WWW-Authenticate"] = f'Bearer realm="tasks"{invalid}'
    elif isinstance(error, TooManyRequestsError):
        response.headers["Retry-After"] = str(_TOO_MANY_SECONDS)
    elif isinstance(error, TransientError):
        response.headers["Retry-After"] = str(_UNAVAILABLE_SECONDS)
    return response


def _http_exception(error: HTTPException) -> Response:
    """Turn what the framework raises into a problem; its own text is for browsers and stays behind."""
    status = error.code or 500
    if isinstance(error, InternalServerError) and error.original_exception is not None:
        return _unexpected(error.original_exception)
    detail = _DETAILS.get(status, f"{TITLES.get(status, error.name)}.")
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowed):
        allowed = sorted(error.valid_methods or ())
        headers["Allow"] = ", ".join(allowed)
        detail = f"This route knows {' and '.join(allowed) or 'no method'}."
    document = {
        "type": f"/docs#problem-{CODES.get(status, 'bad_request')}",
        "title": TITLES.get(status, error.name),
        "status": status,
        "detail": detail,
        "code": CODES.get(status, "bad_request"),
        "instance": request_id(),
    }
    response = _respond(document, status)
    response.headers.update(headers)
    return response


def _unexpected(error: BaseException) -> Response:
    """Log a bug with its traceback, and tell the caller nothing but the id to ask about."""
    log.error("http.unexpected_error", path_rule=str(request.url_rule), exc_info=error)
    return _respond(problem(ServiceError(_DETAILS[500])), 500)


def _respond(document: Mapping[str, Any], status: int) -> Response:
    return Response(json.dumps(document, ensure_ascii=False), status, content_type=CONTENT_TYPE)
