from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from tasks_service import api
from tasks_service.api.open_routes import with_code
from tasks_service.errors import DatabaseUnavailableError, SourceUnavailableError, StorageError
from tests.unit.api.conftest import CHAIN, OTHER_CHAIN, Api, World, check_problem, pointers, segment

# -- export indices ---------------------------------------------------------------------------------------------


def test_an_index_tells_its_fields_and_their_operators(partner: Api) -> None:
    index = partner.get("/export_indices/products").get_json()
    fields = {field["name"]: field for field in index["fields"]}
    assert index["file_prefix"] == "Product"
    assert "csv" in index["formats"]
    assert fields["category"]["type"] == "keyword"
    assert "is_between_number" in fields["price"]["operators"]
    assert "contains" not in fields["price"]["operators"]
    assert partner.get("/export_indices").get_json() == {"results": [index], "next": None, "previous": None}


def test_an_unknown_index_names_the_nearest(partner: Api) -> None:
    answer = partner.get("/export_indices/product")
    assert answer.status_code == 404
    assert "`products`" in answer.get_json()["detail"]


def test_an_index_the_source_has_not_is_not_listed(partner: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_index: object) -> None:
        raise SourceUnavailableError

    assert [one["name"] for one in partner.get("/export_indices").get_json()["results"]] == ["products"]
    monkeypatch.setattr(world.services.source, "catalog", away)
    assert partner.get("/export_indices").status_code == 503


# -- previews ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_preview_counts_the_chains_own_rows(partner: Api, stranger: Api, *, wrapped: bool) -> None:
    def body(**changes: Any) -> dict[str, Any]:
        return {"segment": segment(**changes), "timezone": "Europe/Amsterdam"} if wrapped else segment(**changes)

    answer = partner.post("/segments/preview", body())
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["count"] == 2
    assert {row["chain_id"] for row in answer.get_json()["sample"]} == {CHAIN}
    assert partner.post("/segments/preview", body(rules=[])).get_json()["count"] == 3
    assert partner.post("/segments/preview", body(chain_id=OTHER_CHAIN)).status_code == 403
    assert stranger.post("/segments/preview", body(chain_id=OTHER_CHAIN)).get_json()["sample"][0]["name"] == "Canary"


def test_a_preview_is_measured_from_the_moment_it_names(partner: Api) -> None:
    rule = {"field_name": "created", "field_type": "date", "operator": "relative_less_than"}
    rules = [rule | {"time_factor": "day", "time_amount": 1}]
    body = {"segment": segment(rules=rules), "now": "2026-05-02T09:00:00Z"}
    assert partner.post("/segments/preview", body).get_json()["count"] == 1
    assert partner.post("/segments/preview", body | {"now": "2026-05-02T11:00:00Z"}).get_json()["count"] == 0
    assert partner.post("/segments/preview", {"segment": segment(rules=rules)}).get_json()["count"] == 0


BAD: list[tuple[Any, dict[str, str]]] = [
    ({}, {"/segment": "missing"}),
    ({"segment": None}, {"/segment": "missing"}),
    ({"segment": [1]}, {"/segment": "wrong_type"}),
    ({"segment": segment(), "segment_id": 1}, {"": "clash"}),
    ({"segment_id": 1}, {"/segment_id": "unknown_segment"}),
    ({"segment_id": "x"}, {"/segment_id": "wrong_type"}),
    ({"segment": segment(), "timezone": "Mars"}, {"/timezone": "unknown_zone"}),
    ({"segment": segment(), "timezone": 1}, {"/timezone": "wrong_type"}),
    ({"segment": segment(), "now": "yesterday"}, {"/now": "invalid_date"}),
    ({"segment": segment(), "now": "2026-01-01T00:00:00"}, {"/now": "invalid_date"}),
    ({"segment": segment(), "nwo": 1}, {"/nwo": "unknown_member"}),
    ({"segment": segment(index="product")}, {"/segment/index": "unknown_index"}),
    (segment(index="product"), {"/index": "unknown_index"}),
]


@pytest.mark.parametrize(("body", "expected"), BAD)
def test_what_is_wrong_with_a_preview_is_named(partner: Api, body: Any, expected: dict[str, str]) -> None:
    assert pointers(partner.post("/segments/preview", body)) == expected


def test_the_faults_of_a_segment_are_named_in_either_form(partner: Api) -> None:
    broken = segment(rules=[{"field_name": "catgory", "field_type": "keyword", "operator": "is", "value": "x"}], x=1)
    for prefix, body in (("", broken), ("/segment", {"segment": broken})):
        found = pointers(partner.post("/segments/preview", body))
        assert set(found) == {f"{prefix}/rules/0/field_name", f"{prefix}/x"}


@pytest.mark.parametrize("missing", ["chain_id", "index", "join", "rules"])
def test_a_segment_without_a_member_is_told_which(partner: Api, missing: str) -> None:
    body = segment()
    del body[missing]
    assert set(pointers(partner.post("/segments/preview", body))) == {f"/{missing}"}


# -- health -----------------------------------------------------------------------------------------------------


def checks(answer: Any) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in answer.get_json()["checks"]}


def test_a_well_service_is_alive_and_ready(partner: Api) -> None:
    assert checks(partner.client.get("/healthz")) == {"database": True}
    assert checks(partner.client.get("/readyz")) == {"database": True, "source": True, "storage": True}


@pytest.mark.parametrize(
    ("part", "error"),
    [("source", SourceUnavailableError()), ("storage", StorageError()), ("source", RuntimeError("s3cret"))],
)
def test_a_part_that_fails_makes_it_unready_but_not_dead(
    partner: Api, world: World, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(getattr(world.services, part), "check", fails)
    answer = partner.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["status"] == "failing"
    assert [name for name, ok in checks(answer).items() if not ok] == [part]
    assert "s3cret" not in answer.text
    assert partner.client.get("/healthz").status_code == 200


def test_a_database_that_is_away_makes_it_dead(partner: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailableError

    monkeypatch.setattr(world.services.database, "now", away)
    assert partner.client.get("/healthz").status_code == 503


def test_a_schema_that_is_not_known_makes_it_unready_and_says_what_to_run(tmp_path: Any, world: World) -> None:
    path = world.services.database.path
    assert path is not None
    world.services.database.dispose()
    for file in path.parent.glob("tasks.db*"):
        file.unlink()
    answer = world.app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert "tasks-service db upgrade" in answer.get_json()["checks"][0]["detail"]


def test_a_loop_that_does_not_tick_makes_it_dead(world: World) -> None:
    app = Flask("other", static_folder=None)
    api.register(app, world.services, loops=lambda: {"scheduler": True, "worker": False})
    answer = app.test_client().get("/healthz")
    assert answer.status_code == 503
    assert checks(answer) == {"scheduler": True, "worker": False, "database": True}


# -- the reference ----------------------------------------------------------------------------------------------


def test_the_page_for_people_names_every_route_and_asks_nobody_else(world: World, contract: Any) -> None:
    client = world.app.test_client()
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    for path, methods in contract.document["paths"].items():
        assert f"<code>{path}</code>" in page.text
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page.text
    assert not re.search(r'(src|href)="(?!/docs/reference\.css|/openapi\.json|#)', page.text)
    assert "<script" not in page.text
    assert "<code>does_not_contain</code>" in page.text
    assert "style=" not in page.text
    assert "curl -X POST &#39;http://exports.test/tasks&#39;" in page.text
    assert client.get("/docs/reference.css").content_type == "text/css; charset=utf-8"
    assert "public" in page.headers["Cache-Control"]


def test_every_problem_type_leads_to_its_line_on_the_page(world: World, partner: Api) -> None:
    page = world.app.test_client().get("/docs").text
    for answer in (
        partner.get("/tasks/5"),
        partner.request("PUT", "/tasks"),
        partner.get("/tasks?limit=x"),
        partner.post("/tasks", {}),
    ):
        kind = check_problem(answer)["type"]
        assert f'id="{kind.removeprefix("/docs#")}"' in page


def test_the_page_for_people_shows_code_as_code_and_escapes_the_rest() -> None:
    assert with_code("a `<b>` c & `d`") == "a <code>&lt;b&gt;</code> c &amp; <code>d</code>"
