"""A route, declared once: its path, who may call it, what it takes and what it answers.

The declaration is what runs (`add`) and what is documented (api/openapi.py reads the same objects), so that the two
cannot disagree. A route's function takes a `Call` and returns a `Reply`; everything of HTTP around it is here: the
token, the query, the body and its size and type, in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flask import Flask, Response, request
from pydantic import BaseModel
from werkzeug.routing import BaseConverter, ValidationError

from tasks_service.api.auth import principal_of
from tasks_service.api.bodies import parse_json, read_model, read_query
from tasks_service.api.calls import Body, Call, Context, Reply
from tasks_service.api.problems import MediaTypeError, TooLargeError
from tasks_service.errors import InvalidRequestError, ServiceError
from tasks_service.schemas import MAX_ID

READ = "tasks:read"
WRITE = "tasks:write"


_ID_PARAMETERS = re.compile(r"\{(task_id|run_id|backfill_id|segment_id|version)\}")
_DISCARDED_BYTES = 16 * 1024 * 1024
_DISCARDED_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Header:
    """A header a route reads or answers with."""

    name: str
    description: str


@dataclass(frozen=True)
class Success:
    """A status a route answers when all is well, with the model of its body."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    headers: Sequence[str] = ()


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        collects: the route's function adds faults of its own to those of the body's shape, and raises them all.
        alternatives: other forms of the body that its function reads itself.
        errors: what it raises beyond what follows from the declaration (token, path, query, body).
        example: a body that works, for the documentation.
    """

    method: str
    path: str
    handler: Callable[[Call], Reply]
    scope: str
    summary: str
    description: str
    answers: Sequence[Success]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    alternatives: Sequence[type[BaseModel]] = ()
    body_optional: bool = False
    collects: bool = False
    headers: Sequence[Header] = ()
    errors: Sequence[type[ServiceError]] = ()
    example: Mapping[str, Any] | None = None
    tag: str = "Tasks"
    name: str = field(default="")

    @property
    def operation(self) -> str:
        """The route's stable name."""
        return self.name or self.handler.__name__


class _IdConverter(BaseConverter):
    """An id as the database has them; anything else in its place is a path that does not exist."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        number = int(value)
        if number > MAX_ID:
            raise ValidationError
        return number


def prepare(app: Flask) -> None:
    """Let the application know ids in paths, and answer no redirects nor methods nobody declared."""
    app.url_map.converters["id"] = _IdConverter
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False


def add(app: Flask, context: Context, route: Route) -> None:
    """Make the application answer a route."""
    rule = _ID_PARAMETERS.sub(r"<id:\1>", route.path).replace("{name}", "<name>")

    def view(**path: Any) -> Response:  # noqa: ANN401 -- values of the path's converters
        principal = principal_of(context.services.database, request.headers.get("Authorization"), scope=route.scope)
        query = read_query(route.query, request.args) if route.query is not None else None
        body = _body(context, route)
        return respond(route.handler(Call(context, principal, path, _headers(), query, body)))

    app.add_url_rule(rule, f"{route.method} {route.path}", view, methods=[route.method])


def respond(reply: Reply) -> Response:
    """Turn a reply into an HTTP response."""
    if reply.document is None:
        response = Response(status=reply.status)
        del response.headers["Content-Type"]
    else:
        text = json.dumps(reply.document, ensure_ascii=False, separators=(",", ":"))
        response = Response(text, reply.status, content_type="application/json")
    response.headers.update(reply.headers)
    return response


def _body(context: Context, route: Route) -> Body:
    """Read the body a route declares: its size, its type, its JSON and its shape are judged in this order."""
    if route.body is None:
        return Body({})
    data = _bytes(context.services.settings.web.max_body_bytes)
    if route.body_optional and not data.strip():
        return Body({}, route.body())
    if request.mimetype != "application/json" or not _is_utf8(request.mimetype_params.get("charset")):
        raise MediaTypeError
    document = parse_json(data)
    model, faults = read_model(route.body, document)
    if not isinstance(document, dict) or (faults and not route.collects):
        raise InvalidRequestError(faults=faults)
    return Body(cast("dict[str, Any]", document), model, tuple(faults))


def _headers() -> Mapping[str, str]:
    # Werkzeug's headers are no Mapping by type, but one by use: names in any case, `get`, `in`.
    return cast("Mapping[str, str]", request.headers)


def _bytes(limit: int) -> bytes:
    """Read the body, also one that comes in chunks and tells no length, but never more than the limit."""
    announced = (request.content_length or 0) > limit
    data = b"" if announced else request.stream.read(limit + 1)
    if announced or len(data) > limit:
        _discard_body()
        raise TooLargeError(f"The body is larger than {limit} bytes; send less.")
    return data


def _discard_body() -> None:
    """Read what is left of a body, up to a bound.

    A client that is still sending when the connection closes never sees the answer, and one that reuses the
    connection finds it closed.
    """
    left = _DISCARDED_BYTES
    while left > 0 and (chunk := request.stream.read(min(left, _DISCARDED_CHUNK))):
        left -= len(chunk)


def _is_utf8(charset: str | None) -> bool:
    return charset is None or charset.lower().replace("-", "") == "utf8"
