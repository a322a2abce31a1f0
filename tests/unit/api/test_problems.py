from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_service.api.indices import ROUTES as INDEX_ROUTES
from tasks_service.api.routes import Route
from tasks_service.api.segments import ROUTES as SEGMENT_ROUTES
from tasks_service.api.task_routes import TASK_ROUTES
from tasks_service.errors import SourceError, SourceUnavailableError
from tests.unit.api.conftest import Api, Contract, World, check_problem, pointers, segment, standing, task_body

ROUTES = (*TASK_ROUTES, *INDEX_ROUTES, *SEGMENT_ROUTES)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
WITH_BODY = [route for route in ROUTES if route.body is not None]


def at(route: Route) -> str:
    path = route.path.replace("{task_id}", "1").replace("{run_id}", "1")
    return path.replace("{name}", "products")


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


# One installation for the whole module: nothing here depends on what another test left.


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, migrated: Path, contract: Contract) -> Iterator[World]:
    with standing(tmp_path_factory.mktemp("world"), migrated, contract) as found:
        first = found.caller()
        assert first.create(trigger={"cron": "0 2 * * *"})["id"] == 1
        first.post("/tasks/1/execute", Prefer="wait=0")
        yield found


@pytest.fixture(scope="module")
def app(world: World) -> Flask:
    return world.app


@pytest.fixture(scope="module")
def partner(world: World) -> Api:
    """A partner with a task 1, a cron, and its run 1, queued."""
    return world.caller()


@pytest.mark.parametrize("route", ROUTES, ids=name)
@pytest.mark.parametrize("token", [None, "", "Basic abc", "Bearer", "Bearer x", "Bearer a:b", "Bearer a:b:c ü"])
def test_no_route_answers_without_a_good_token(app: Flask, route: Route, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token}
    answer = app.test_client().open(at(route), method=route.method, headers=headers)
    assert answer.status_code == 401
    assert check_problem(answer)["code"] == "not_authenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_a_token_without_the_scope_is_forbidden(world: World, route: Route) -> None:
    other = {"tasks:read", "tasks:write"} - {route.scope}
    answer = world.caller(scopes=tuple(other)).request(route.method, at(route))
    assert answer.status_code == 403
    assert route.scope in answer.get_json()["detail"]


def test_the_scope_admin_includes_the_others(world: World) -> None:
    caller = world.caller(scopes=("admin",))
    assert caller.task(caller.create()["id"])["version"] == 1


@pytest.mark.parametrize("path", sorted({at(route) for route in ROUTES} | {"/healthz", "/docs", "/openapi.json"}))
@pytest.mark.parametrize("method", METHODS)
def test_a_method_nobody_declared_is_405_and_says_which_are(app: Flask, path: str, method: str) -> None:
    known = {route.method for route in ROUTES if at(route) == path} or {"GET"}
    if method in known:
        return
    answer = app.test_client().open(path, method=method)
    assert answer.status_code == 405
    assert check_problem(answer)["code"] == "method_not_allowed"
    assert known <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "path",
    [
        "/", "/nothing", "/tasks/", "//tasks", "/tasks/0", "/tasks/-1", "/tasks/01", "/tasks/1.0", "/tasks/abc",
        "/tasks/%D9%A1", "/tasks/9223372036854775808", "/tasks/99999999999999999999", "/runs/x", "/tasks/1/nothing",
        "/export_indices/", "/tasks/1%00", "/%FF%FE",
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_is_404(partner: Api, path: str) -> None:
    assert partner.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/tasks/9223372036854775807", "/runs/9223372036854775807"])
def test_the_largest_id_is_looked_for(partner: Api, path: str) -> None:
    assert partner.get(path).status_code == 404


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400), (b"[1,]", 400), (b"nope", 400), (b"\xff\xfe", 400), (b'{"a": NaN}', 400), (b'{"a": 1e999}', 400),
        (b'{"a": -Infinity}', 400), (b'{"a": ' + b"9" * 5000 + b"}", 400), (b"[" * 100_000, 400),
        (b"[]", 422), (b"null", 422), (b'"{}"', 422), (b"1", 422), (b'{"a": 1, "a": 2}', 422),
        (b'{"desc": "\\u0000"}', 422), (b'{"desc": "\\ud800"}', 422), (b'{"\\u0000": 1}', 422),
        (b'{"no_such_member": 1}', 422), (b"[" * 200 + b"]" * 200, 422), (b'{"a":' * 40 + b"1" + b"}" * 40, 422),
    ],
)  # fmt: skip
def test_a_body_that_is_no_good_is_told_where(partner: Api, route: Route, body: bytes, status: int) -> None:
    answer = partner.client.open(
        at(route),
        method=route.method,
        data=body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {partner.token}"},
    )
    assert answer.status_code == status, answer.text
    problem = check_problem(answer)
    assert all("pointer" in fault for fault in problem["errors"])
    assert problem["errors"]


def test_malformed_json_names_line_and_column(partner: Api) -> None:
    answer = partner.client.post(
        "/tasks",
        data='{"chain": 1764,\n "desc": }',
        content_type="application/json",
        headers={"Authorization": f"Bearer {partner.token}"},
    )
    assert "line 2, column 10" in answer.get_json()["detail"]


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "", "json"]
)
def test_another_content_type_is_415(partner: Api, route: Route, content_type: str) -> None:
    answer = partner.client.open(
        at(route),
        method=route.method,
        data=b'{"desc": "x"}',
        content_type=content_type,
        headers={"Authorization": f"Bearer {partner.token}"},
    )
    assert answer.status_code == 415
    check_problem(answer)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8", "Application/JSON"])
def test_json_in_utf_8_is_taken(partner: Api, content_type: str) -> None:
    answer = partner.client.post(
        "/tasks",
        data=json.dumps(task_body()),
        content_type=content_type,
        headers={"Authorization": f"Bearer {partner.token}"},
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(partner: Api, route: Route, *, chunked: bool) -> None:
    body = json.dumps({"desc": "x" * 1024 * 1024}).encode()
    extra: dict[str, Any] = {"data": body}
    if chunked:
        # As a server hands over a body that tells no length.
        from io import BytesIO

        environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        extra = {"input_stream": BytesIO(body), "environ_overrides": environ}
    answer = partner.client.open(
        at(route),
        method=route.method,
        content_type="application/json",
        headers={"Authorization": f"Bearer {partner.token}"},
        **extra,
    )
    assert answer.status_code == 413
    assert check_problem(answer)["code"] == "too_large"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.query is not None], ids=name)
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("nothing=1", "nothing"), ("cursr=x", "cursr"), ("limit=1&limit=2", "limit"), ("limit=x", "limit"),
        ("limit=101", "limit"), ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"), ("limit=99999999999999999999999", "limit"), ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"), ("cursor=%F0%9F%92%A9", "cursor"), ("cursor=", "cursor"),
        ("log_limit=101", "log_limit"),
        ("offset=-1", "offset"), ("%00=1", "\0"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_no_good_is_named(partner: Api, route: Route, query: str, parameter: str) -> None:
    answer = partner.get(f"{at(route)}?{query}")
    assert answer.status_code == 422, answer.text
    assert answer.get_json()["code"] == "invalid_parameters"
    assert [fault["parameter"] for fault in answer.get_json()["errors"]] == [parameter]


def test_a_bug_is_a_500_that_tells_nothing(partner: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(world.services.database), "now", broken)
    answer = partner.client.get("/tasks", headers={"Authorization": f"Bearer {partner.token}"})
    assert answer.status_code == 500
    assert check_problem(answer)["code"] == "internal_error"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(SourceUnavailableError(), 503, "source_unavailable"), (SourceError("No."), 502, "source_refused")],
)
def test_a_source_that_fails_is_a_problem(
    partner: Api, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(world.services.source, "sample", fails)
    answer = partner.post("/segments/preview", segment())
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize(("sent", "kept"), [("abc-1.2_3", True), ("a" * 128, True), ("a" * 129, False), ("a b", False)])
def test_a_sane_request_id_is_kept(partner: Api, sent: str, *, kept: bool) -> None:
    answer = partner.get("/nothing", X_Request_Id=sent)
    assert (answer.get_json()["instance"] == sent) == kept


@pytest.mark.parametrize("path", ["/tasks", "/nothing", "/docs", "/healthz"])
def test_every_answer_carries_safe_headers(partner: Api, path: str) -> None:
    headers = partner.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Request-Id"]
    assert path == "/docs" or headers["Cache-Control"] == "no-store"


def test_a_token_is_in_no_answer(partner: Api) -> None:
    secret = partner.token.split(":")[1]
    for answer in (partner.get("/nothing"), partner.post("/tasks", {"chain": 1}), partner.get("/tasks?limit=x")):
        assert secret not in answer.text


def test_an_unknown_member_names_the_nearest_known_one(partner: Api) -> None:
    answer = partner.post("/tasks", task_body(trger={}))
    assert pointers(answer) == {"/trger": "unknown_member"}
    assert "`trigger`" in answer.get_json()["errors"][0]["detail"]


WORDS = """
    chain desc target trigger debug action export_index export_format format columns compression options
    on_empty limit once cron timezone start_at end_at jitter misfire overlap segment segment_id rules
    join index entity chain_id field_name field_type operator value negate note now
"""
MEMBERS = st.sampled_from(WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)


def mutated(body: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A good body with one part, at any depth, exchanged for anything."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(inner, (*path, key))

    walk(body, ())

    def exchange(drawn: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
        path, value = drawn
        copy = json.loads(json.dumps(body))
        if not path:
            return copy | value if isinstance(value, dict) else copy
        holder = copy
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        return copy

    return st.tuples(st.sampled_from(places), JSON).map(exchange)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON | mutated(task_body(trigger={"cron": "0 2 * * *", "segment": segment()})))
@pytest.mark.parametrize("path", ["/tasks", "/segments/preview", "/tasks/1"])
def test_no_body_is_a_500(partner: Api, path: str, body: Any) -> None:
    if path == "/segments/preview" and isinstance(body, dict) and isinstance(body.get("trigger"), dict):
        body = body["trigger"].get("segment", body)
    method = "PATCH" if path == "/tasks/1" else "POST"
    answer = partner.client.open(
        path,
        method=method,
        data=json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {partner.token}"},
    )
    partner.contract.check(answer)
    assert answer.status_code in {200, 201, 400, 403, 409, 422, 429}, answer.text
    if answer.status_code == 422:
        assert answer.get_json()["errors"], answer.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64), content_type=st.sampled_from(["application/json", "text/plain"]))
def test_no_bytes_are_a_500(partner: Api, data: bytes, content_type: str) -> None:
    answer = partner.client.post(
        "/tasks", data=data, content_type=content_type, headers={"Authorization": f"Bearer {partner.token}"}
    )
    assert answer.status_code in {400, 415, 422}
    check_problem(answer)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=64))
def test_no_authorization_is_a_500(app: Flask, token: str) -> None:
    answer = app.test_client().get("/tasks", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_nothing_is_stored_by_a_request_that_is_refused(world: World) -> None:
    fresh = world.caller(77)
    fresh.post("/tasks", task_body(chain=77, target={"action": "export", "export_index": "nothing"}))
    fresh.post("/tasks", task_body(chain=77, nonsense=1))
    fresh.post("/tasks", task_body())
    assert fresh.get("/tasks").get_json()["results"] == []
