"""GET /files/{token}/{file_name}: the files behind the local storage's links.

No Authorization header is asked for: the link is the authority, for one generation of one object, for its
time. What lives here: HTTP (ranges, names, headers). What does not: judging the token (storage/links.py) and
finding the file (storage/local.py). Called by api/__init__.py where the storage is local; `redact_path` is
for access logs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flask import Blueprint, request, send_file

from tasks_service.errors import ForbiddenError, GoneError
from tasks_service.storage.links import redact_path
from tasks_service.storage.names import attachment

if TYPE_CHECKING:
    from flask import Response

    from tasks_service.storage.local import LocalStorage

__all__ = ["blueprint", "redact_path"]

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(?P<first>\d{0,18})\s*-\s*(?P<last>\d{0,18})\s*", re.IGNORECASE)

_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Robots-Tag": "noindex, nofollow",
}


def blueprint(storage: LocalStorage) -> Blueprint:
    """Return the route of local links. Its errors are ForbiddenError (403) and GoneError (410), and 416."""
    routes = Blueprint("files", __name__)

    @routes.get("/files/<token>/<file_name>")
    def download(token: str, file_name: str) -> Response:  # pyright: ignore[reportUnusedFunction] -- flask keeps it
        return _serve(storage, token, file_name)

    return routes


def _serve(storage: LocalStorage, token: str, file_name: str) -> Response:
    linked = storage.verify(token)
    if file_name != linked.file_name:
        raise ForbiddenError("This link was altered; use it exactly as it was handed out.")
    asked = _range_to_serve(request.environ.pop("HTTP_RANGE", ""), linked.stored.size)
    if asked is not None:
        request.environ["HTTP_RANGE"] = asked
    try:
        # With the type given, a .gz stays a file and is not said to be an encoding.
        response = send_file(
            linked.path.resolve(),
            mimetype="application/octet-stream",
            etag=f"{linked.stored.generation}-{linked.stored.crc32c.rstrip('=')}",
            conditional=True,
        )
    except FileNotFoundError as error:
        raise GoneError from error  # deleted between the look and the opening
    response.headers["Content-Type"] = linked.content_type
    response.headers["Content-Disposition"] = attachment(linked.file_name)
    response.headers["X-Goog-Hash"] = f"crc32c={linked.stored.crc32c}"
    for name, value in _HEADERS.items():
        response.headers[name] = value
    return response


def _range_to_serve(asked: str, size: int) -> str | None:
    """Return a Range header that werkzeug reads as RFC 9110 does, or None to serve the whole.

    A range that is malformed, of another unit, or one of several may be ignored (14.2); a suffix longer than the file
    is the whole file (14.1.2), which werkzeug answers 416.
    """
    match = _ONE_RANGE.fullmatch(asked)
    if match is None or match["first"] == match["last"] == "" or not size:
        return None
    first, last = match["first"], match["last"]
    if first == "":
        return f"bytes={-min(int(last), size)}" if int(last) else "bytes=-0"
    if last and int(last) < int(first):
        return None
    return f"bytes={first}-{last}"
