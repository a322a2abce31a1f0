"""The OpenAPI document, made from the routes' own declarations and the models they name.

What lives here: the document, and nothing that runs a request. `document` is called once per process, by the routes of
/openapi.json and /docs. The schemas come from pydantic in one pass, so that every model has one component.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from segments import Segment
from tasks_service import __version__, schemas
from tasks_service.api.problems import (
    CODES,
    CONTENT_TYPE,
    GENERAL,
    TITLES,
    InvalidParametersError,
    MalformedError,
    MediaTypeError,
    TooLargeError,
)
from tasks_service.api.routes import Header, Route, Success
from tasks_service.errors import (
    DatabaseUnavailableError,
    ForbiddenError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    ServiceError,
)
from tasks_service.problem_schemas import Health, Problem

Document = dict[str, Any]
_REF = "#/components/schemas/{model}"
_ID = {"type": "integer", "minimum": 1, "maximum": schemas.MAX_ID}
_PATH_PARAMETERS: dict[str, Document] = {
    "task_id": {"description": "The task's id.", "schema": _ID},
    "run_id": {"description": "The run's id.", "schema": _ID},
    "backfill_id": {"description": "The backfill's id.", "schema": _ID},
    "segment_id": {"description": "The saved segment's id.", "schema": _ID},
    "version": {"description": "The number of the version.", "schema": _ID},
    "name": {"description": "The index's name.", "schema": {"type": "string"}},
}
_REQUEST_ID = Header("X-Request-Id", "The request's id: yours, where you sent one of 1 to 128 letters, digits, . _ -")
_DESCRIPTION = """\
Scheduled and on-demand exports of documents as files.

Create a task with a target (which index, which format) and a trigger (when, and which rows); poll it until its state
is DONE or ERROR; ask for the download link, which lives for about an hour.

Send `Authorization: Bearer TOKEN_ID:TOKEN_SECRET` with every call. Bodies are JSON, instants are ISO 8601. Every error
is `application/problem+json` (RFC 9457) and names all faults of a request at once.
"""


def document(routes: Sequence[Route], *, server: str) -> Document:
    """Return the OpenAPI 3.1 document of these routes."""
    components = _schemas(routes)
    paths: dict[str, Document] = {}
    errors: Document = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, errors)
    for path, methods, summary in _OPEN_PATHS:
        paths[path] = {"get": _open_operation(path, methods, summary, errors)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tasks service", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)] + [{"name": "Service"}],
        "x-codes": {str(status): {CODES[status]: sentence} for status, sentence in GENERAL.items()},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": dict(sorted(errors.items())),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "TOKEN_ID:TOKEN_SECRET",
                    "description": "A token of a client. Each route names the scope it wants; `admin` includes all.",
                }
            },
        },
    }


def errors_of(route: Route) -> list[type[ServiceError]]:
    """Return every error a route answers: those it declares, and those that follow from its declaration."""
    found: list[type[ServiceError]] = [NotAuthenticatedError, ForbiddenError]
    if "{" in route.path:
        found.append(NotFoundError)
    if route.body is not None:
        found += [MalformedError, TooLargeError, MediaTypeError, InvalidRequestError]
    if route.query is not None:
        found.append(InvalidParametersError)
    found += [*route.errors, ServiceError, DatabaseUnavailableError]
    return list(dict.fromkeys(found))


_OPEN_PATHS: Sequence[tuple[str, type[BaseModel] | str, str]] = (
    ("/healthz", Health, "Is this process alive, and does the database answer?"),
    ("/readyz", Health, "Can this process serve: database and schema, source, storage?"),
    ("/metrics", "text/plain", "Prometheus' text format, for an operator's token or `metrics.token`."),
    ("/openapi.json", "application/json", "This document."),
    ("/docs", "text/html", "This document for people."),
)

# The one among them that is not open, unless the settings say so.
_GUARDED: Mapping[str, Sequence[type[ServiceError]]] = {
    "/metrics": (NotAuthenticatedError, ForbiddenError, ServiceError, DatabaseUnavailableError)
}


def _operation(route: Route, errors: Document) -> Document:
    operation: Document = {
        "operationId": route.operation,
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"{route.description}\n\nScope: `{route.scope}`.".strip(),
        "parameters": [*_path_parameters(route.path), *_query_parameters(route), *_headers(route.headers)],
        "responses": _responses(route, errors),
    }
    if route.body is not None:
        forms = [{"$ref": _REF.format(model=form.__name__)} for form in (route.body, *route.alternatives)]
        content: Document = {"schema": forms[0] if len(forms) == 1 else {"anyOf": forms}}
        if route.example is not None:
            content["example"] = route.example
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": content},
        }
    return operation


def _open_operation(path: str, model: type[BaseModel] | str, summary: str, errors: Document) -> Document:
    ok: Document = {"description": summary}
    responses: Document = {"200": ok}
    if isinstance(model, str):
        ok["content"] = {model: {"schema": {"type": "object" if "json" in model else "string"}}}
    else:
        ok["content"] = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
        responses["503"] = {"description": "It cannot; `checks` tells why.", "content": ok["content"]}
    responses |= _failures(_GUARDED.get(path, ()), errors)
    name = path.strip("/").replace(".", "_")
    security: Document = {} if path in _GUARDED else {"security": []}
    return {"operationId": name, "tags": ["Service"], "summary": summary, **security, "responses": responses}


def _path_parameters(path: str) -> Iterable[Document]:
    for name, parameter in _PATH_PARAMETERS.items():
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, **parameter}


def _query_parameters(route: Route) -> Iterable[Document]:
    if route.query is None:
        return
    schema = route.query.model_json_schema()
    for name, given in schema["properties"].items():
        described = dict(given)
        described.pop("title", None)
        yield {
            "name": name,
            "in": "query",
            "required": False,
            "description": described.pop("description", ""),
            "schema": _without_null(described),
        }


def _headers(headers: Iterable[Header]) -> Iterable[Document]:
    for header in headers:
        yield {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": {"type": "string"},
        }


def _responses(route: Route, errors: Document) -> Document:
    """Return a route's responses."""
    return {str(answer.status): _success(answer) for answer in route.answers} | _failures(errors_of(route), errors)


def _failures(found: Iterable[type[ServiceError]], errors: Document) -> Document:
    """Return the responses that are errors, by status; they go to `errors`, where routes that fail alike share them."""
    responses: Document = {}
    by_status: dict[int, dict[str, str]] = {}
    for error in found:
        sentence = (error.__doc__ or "").strip().splitlines()[0]
        by_status.setdefault(error.http_status, {})[error.code] = sentence
    for status, codes in sorted(by_status.items()):
        name = "_or_".join(codes)
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
        errors[name] = {
            "description": " ".join([f"{TITLES[status]}.", *(f"`{code}`: {text}" for code, text in codes.items())]),
            "x-codes": codes,
            "headers": _answer_headers(("WWW-Authenticate",) if status == 401 else ()),  # noqa: PLR2004 -- HTTP
            "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return responses


def _success(answer: Success) -> Document:
    described: Document = {"description": answer.description, "headers": _answer_headers(answer.headers)}
    if answer.model is not None:
        described["content"] = {"application/json": {"schema": {"$ref": _REF.format(model=answer.model.__name__)}}}
    return described


def _answer_headers(names: Iterable[str]) -> Document:
    named = {name: {"schema": {"type": "string"}} for name in names}
    return named | {_REQUEST_ID.name: {"description": _REQUEST_ID.description, "schema": {"type": "string"}}}


def _schemas(routes: Sequence[Route]) -> Document:
    """Return a component for every model that is named, requests and answers, without titles that only repeat names."""
    asked: dict[type[BaseModel], JsonSchemaMode] = {Segment: "validation"}
    for route in routes:
        if route.body is not None:
            asked[route.body] = "validation"
        asked |= {answer.model: "serialization" for answer in route.answers if answer.model is not None}
    asked |= {Problem: "serialization", Health: "serialization"}
    _, definitions = models_json_schema(list(asked.items()), ref_template=_REF)
    return cast("Document", _tidy(definitions["$defs"]))


def _tidy(value: Any) -> Any:  # noqa: ANN401 -- any JSON value
    """Return a schema with references resolved that pydantic could not see, and without its generated titles."""
    if isinstance(value, list):
        return [_tidy(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("Document", value)
    if isinstance(members.get("x-model"), str):
        return {"$ref": _REF.format(model=members["x-model"])}
    return {name: _tidy(one) for name, one in members.items() if not (name == "title" and isinstance(one, str))}


def _without_null(schema: Document) -> Document:
    """Return the schema of a parameter: one that is absent has no value, not even null."""
    if "anyOf" not in schema:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    [only] = [one for one in schema["anyOf"] if one.get("type") != "null"]
    return rest | only
