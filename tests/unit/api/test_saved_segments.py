"""/segments: saved segments, and the tasks and runs that use them."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_service.api.definitions import define
from tasks_service.runner import Worker
from tests.unit.api.conftest import CHAIN, OTHER_CHAIN, Api, pointers, segment

RELATIVE = {
    "field_name": "created", "field_type": "date", "operator": "relative_less_than",
    "time_factor": "day", "time_amount": 1,
}  # fmt: skip
TARGET = {"action": "export", "export_index": "products", "export_format": "csv"}


def price(above: float) -> dict[str, Any]:
    rule = {"field_name": "price", "field_type": "number", "operator": "is_greater_than", "value": above}
    return segment(rules=[rule])


def save(caller: Api, name: str = "Electronics", document: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = caller.post("/segments", {"name": name, "segment": document or segment()})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/segments/{answer.get_json()['id']}"
    assert answer.headers["ETag"] == '"1"'
    return answer.get_json()


def replace(caller: Api, saved: dict[str, Any], document: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = caller.request(
        "PUT", f"/segments/{saved['id']}", {"name": saved["name"], "segment": document}, **headers
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def using(saved: dict[str, Any], **trigger: Any) -> dict[str, Any]:
    return {"segment_id": saved["id"], **(trigger or {"once": "2999-05-26T12:00:00Z"})}


# -- saving and showing ------------------------------------------------------------------------------------------


def test_a_saved_segment_is_shown_as_it_was_saved(partner: Api) -> None:
    saved = save(partner)
    assert saved == {
        "id": saved["id"], "chain": CHAIN, "name": "Electronics", "version": 1, "segment": segment(),
        "created_by": {"type": "client", "id": saved["created_by"]["id"], "name": "client 0"},
        "created_date": saved["created_date"], "last_modified": saved["created_date"],
    }  # fmt: skip
    assert partner.get(f"/segments/{saved['id']}").get_json() == saved
    assert partner.get("/segments").get_json() == {"results": [saved], "next": None, "previous": None}


def test_whoever_has_this_version_already_gets_no_body(partner: Api) -> None:
    saved = save(partner)
    answer = partner.get(f"/segments/{saved['id']}", If_None_Match='"1"')
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", '"1"')
    replace(partner, saved, price(1))
    assert partner.get(f"/segments/{saved['id']}", If_None_Match='"1"').status_code == 200


BAD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"/name": "missing", "/segment": "missing"}),
    ({"name": "a", "segment": 1}, {"/segment": "wrong_type"}),
    ({"name": "", "segment": segment()}, {"/name": "too_short"}),
    ({"name": "x" * 201, "segment": segment()}, {"/name": "too_long"}),
    ({"name": " a", "segment": segment()}, {"/name": "not_allowed"}),
    ({"name": "a", "segment": segment(), "version": 1}, {"/version": "unknown_member"}),
    ({"name": "a", "segment": segment(index="product")}, {"/segment/index": "unknown_index"}),
    ({"name": "a", "segment": {}}, {f"/segment/{name}": "missing" for name in ("index", "chain_id", "join", "rules")}),
]


@pytest.mark.parametrize(("body", "expected"), BAD)
def test_what_is_wrong_is_named_by_its_own_pointer(
    partner: Api, body: dict[str, Any], expected: dict[str, str]
) -> None:
    assert pointers(partner.post("/segments", body)) == expected
    saved = save(partner)
    assert pointers(partner.request("PUT", f"/segments/{saved['id']}", body)) == expected


def test_every_fault_of_the_rules_is_named_at_once(partner: Api) -> None:
    rules = [
        {"field_name": "catgory", "field_type": "keyword", "operator": "is", "value": "x"},
        {"field_name": "price", "field_type": "number", "operator": "is_between_number", "min": 2, "max": 1},
    ]
    found = pointers(partner.post("/segments", {"name": 1, "segment": segment(rules=rules)}))
    assert found == {
        "/name": "wrong_type",
        "/segment/rules/0/field_name": "unknown_field",
        "/segment/rules/1": "out_of_order",
    }


def test_a_name_is_the_chains_only_one(partner: Api, stranger: Api) -> None:
    first, second = save(partner), save(partner, "Dear", price(50))
    save(stranger, document=segment(chain_id=OTHER_CHAIN))
    answer = partner.post("/segments", {"name": "Electronics", "segment": price(1)})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "name_taken")
    body = {"name": "Electronics", "segment": price(50)}
    answer = partner.request("PUT", f"/segments/{second['id']}", body)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "name_taken")
    assert partner.get(f"/segments/{second['id']}").get_json() == second
    assert partner.request("DELETE", f"/segments/{first['id']}").status_code == 204
    assert partner.request("PUT", f"/segments/{second['id']}", body).get_json()["name"] == "Electronics"


def test_a_list_is_paged_and_filtered(partner: Api, operator: Api) -> None:
    saved = [save(partner, f"number {number}") for number in range(5)]
    page = partner.get("/segments?limit=2").get_json()
    assert [one["id"] for one in page["results"]] == [saved[4]["id"], saved[3]["id"]]
    following = page["next"].removeprefix("http://exports.test")
    assert [one["id"] for one in partner.get(following).get_json()["results"]] == [saved[2]["id"], saved[1]["id"]]
    elsewhere = save(operator, "number 3", segment(chain_id=OTHER_CHAIN))

    def found(caller: Api, query: str) -> list[int]:
        return [one["id"] for one in caller.get(f"/segments?{query}").get_json()["results"]]

    assert found(operator, "name=number+3") == [elsewhere["id"], saved[3]["id"]]
    assert found(operator, f"name=number+3&chain={CHAIN}&index=products") == [saved[3]["id"]]
    assert found(partner, "name=number+3") == [saved[3]["id"]]
    assert found(partner, "index=users") == []
    assert partner.get("/segments?index=nothing").get_json()["errors"][0]["parameter"] == "index"
    assert partner.get(f"/segments?chain={OTHER_CHAIN}").status_code == 403
    assert partner.get("/segments?limit=101").status_code == 422


# -- whose it is -------------------------------------------------------------------------------------------------


def test_another_chains_segment_is_as_none_at_all(partner: Api, stranger: Api) -> None:
    saved = save(partner)
    body = {"name": "Mine", "segment": segment(chain_id=OTHER_CHAIN)}
    for path in (f"/segments/{saved['id']}", "/segments/999999"):
        calls = [
            ("GET", path, None), ("PUT", path, body), ("DELETE", path, None),
            ("GET", f"{path}/versions", None), ("GET", f"{path}/versions/1", None),
        ]  # fmt: skip
        for method, where, sent in calls:
            answer = stranger.request(method, where, sent)
            told = {name: value for name, value in answer.get_json().items() if name != "instance"}
            assert answer.status_code == 404
            assert told["detail"] == "There is no saved segment with this id."
    assert stranger.get("/segments").get_json()["results"] == []
    assert stranger.post("/segments", {"name": "Theirs", "segment": segment()}).status_code == 403
    assert partner.get(f"/segments/{saved['id']}").get_json() == saved


def test_a_segment_stays_with_its_chain_and_its_index(partner: Api, operator: Api) -> None:
    saved = save(partner)
    body = {"name": "Moved", "segment": segment(chain_id=OTHER_CHAIN, index="users", rules=[])}
    found = pointers(operator.request("PUT", f"/segments/{saved['id']}", body))
    assert found["/segment/chain_id"] == "foreign_chain"
    assert found["/segment/index"] == "other_index"


def test_reading_and_writing_want_their_scopes(partner: Api, world: Any) -> None:
    saved = save(partner)
    reader = world.caller(scopes=("tasks:read",))
    assert reader.get(f"/segments/{saved['id']}").status_code == 200
    for method, path in (("POST", "/segments"), ("PUT", "/segments/1"), ("DELETE", "/segments/1")):
        assert reader.request(method, path, {"name": "x", "segment": segment()}).status_code == 403


# -- versions ----------------------------------------------------------------------------------------------------


def test_every_version_stays_readable(partner: Api, operator: Api) -> None:
    saved = save(partner)
    partner.forward(minutes=1)
    answer = operator.request(
        "PUT", f"/segments/{saved['id']}", {"name": "Dear", "segment": price(50)}, If_Match='"1"'
    )  # fmt: skip
    assert answer.headers["ETag"] == '"2"'
    newest = answer.get_json()
    assert (newest["version"], newest["name"], newest["segment"]) == (2, "Dear", price(50))
    assert newest["created_by"] == saved["created_by"]
    assert newest["last_modified"] > newest["created_date"]
    versions = partner.get(f"/segments/{saved['id']}/versions").get_json()["results"]
    assert [(one["version"], one["name"], one["segment"], one["created_by"]["type"]) for one in versions] == [
        (2, "Dear", price(50), "operator"), (1, "Electronics", segment(), "client"),
    ]  # fmt: skip
    for one in versions:
        assert partner.get(f"/segments/{saved['id']}/versions/{one['version']}").get_json() == one
    assert partner.get(f"/segments/{saved['id']}/versions/3").status_code == 404
    page = partner.get(f"/segments/{saved['id']}/versions?limit=1").get_json()
    second = partner.get(page["next"].removeprefix("http://exports.test")).get_json()
    assert [one["version"] for one in page["results"] + second["results"]] == [2, 1]


def test_what_is_the_same_already_makes_no_version(partner: Api) -> None:
    saved = save(partner)
    partner.forward(minutes=1)
    assert replace(partner, saved, segment()) == saved
    assert len(partner.get(f"/segments/{saved['id']}/versions").get_json()["results"]) == 1


def test_a_change_is_made_on_the_version_it_was_made_for(partner: Api) -> None:
    saved = save(partner)
    replace(partner, saved, price(1), If_Match='"1"')
    for method, body in (("PUT", {"name": "Late", "segment": price(2)}), ("DELETE", None)):
        answer = partner.request(method, f"/segments/{saved['id']}", body, If_Match='"1"')
        assert (answer.status_code, answer.get_json()["code"]) == (412, "precondition_failed")
    assert partner.get(f"/segments/{saved['id']}").get_json()["version"] == 2
    assert partner.request("DELETE", f"/segments/{saved['id']}", If_Match='"2"').status_code == 204


def test_a_deleted_segment_is_gone(partner: Api) -> None:
    saved = save(partner)
    assert partner.request("DELETE", f"/segments/{saved['id']}").status_code == 204
    for path in ("", "/versions", "/versions/1"):
        assert partner.get(f"/segments/{saved['id']}{path}").status_code == 404
    assert partner.get("/segments").get_json()["results"] == []


def test_a_segment_in_use_is_not_deleted(partner: Api) -> None:
    saved = save(partner)
    tasks = [partner.create(trigger=using(saved))["id"] for _ in range(12)]
    answer = partner.request("DELETE", f"/segments/{saved['id']}")
    assert answer.status_code == 409
    told = answer.get_json()
    assert (told["code"], told["tasks_count"], told["tasks"]) == ("segment_in_use", 12, tasks[:10])
    for task in tasks[1:]:
        assert partner.request("DELETE", f"/tasks/{task}").status_code == 204
    assert partner.request("DELETE", f"/segments/{saved['id']}").get_json()["tasks"] == tasks[:1]
    edit = {"trigger": {"once": "2999-05-26T12:00:00Z"}}
    assert partner.request("PATCH", f"/tasks/{tasks[0]}", edit).status_code == 200
    assert partner.request("DELETE", f"/segments/{saved['id']}").status_code == 204


# -- tasks and runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", [int, str])
def test_a_task_names_a_saved_segment(partner: Api, spelling: type) -> None:
    saved = save(partner)
    task = partner.create(trigger={"once": "2999-05-26T12:00:00Z", "segment_id": spelling(saved["id"])})
    assert task["trigger"]["segment_id"] == saved["id"]
    assert "segment" not in task["trigger"]
    assert partner.task(task["id"])["trigger"] == task["trigger"]


def test_a_task_names_only_a_segment_of_its_own_chain_and_index(partner: Api, stranger: Api) -> None:
    theirs = save(stranger, document=segment(chain_id=OTHER_CHAIN))
    deleted, mine = save(partner), save(partner, "Mine")
    partner.request("DELETE", f"/segments/{deleted['id']}")
    body = {"chain": CHAIN, "target": TARGET}
    for unknown in (theirs["id"], deleted["id"], 999999):
        answer = partner.post("/tasks", body | {"trigger": using({"id": unknown})})
        assert pointers(answer) == {"/trigger/segment_id": "unknown_segment"}
    body = {"chain": CHAIN, "target": TARGET | {"export_index": "users"}, "trigger": using(mine)}
    found = pointers(partner.post("/tasks", body))
    assert found["/trigger/segment_id"] == "other_index"


@pytest.mark.parametrize("edits", [False, True])
def test_a_segment_deleted_while_a_task_is_judged_is_refused(
    partner: Api, monkeypatch: pytest.MonkeyPatch, *, edits: bool
) -> None:
    saved, task = save(partner), partner.create()

    def slow(*args: Any, **more: Any) -> Any:
        found = define(*args, **more)
        assert partner.request("DELETE", f"/segments/{saved['id']}").status_code == 204
        return found

    monkeypatch.setattr("tasks_service.api.tasks.define" if edits else "tasks_service.api.creation.define", slow)
    body = {"trigger": using(saved)} if edits else {"chain": CHAIN, "target": TARGET, "trigger": using(saved)}
    answer = partner.request("PATCH", f"/tasks/{task['id']}", body) if edits else partner.post("/tasks", body)
    assert pointers(answer) == {"/trigger/segment_id": "unknown_segment"}
    assert len(partner.get("/tasks").get_json()["results"]) == 1


def test_a_saved_segment_that_the_index_answers_no_more_is_refused_with_what_is_wrong(partner: Api) -> None:
    saved = save(partner)
    folder = partner.services.settings.files.directory / "products"
    for file in folder.iterdir():
        file.unlink()
    (folder / "others.jsonl").write_text('{"chain_id": 1764, "id": 1, "kind": "x"}\n')
    partner.services.source.close()
    body = {"chain": CHAIN, "target": TARGET, "trigger": using(saved)}
    for answer, pointer in (
        (partner.post("/tasks", body), "/trigger/segment_id"),
        (partner.post("/segments/preview", {"segment_id": saved["id"]}), "/segment_id"),
    ):
        assert pointers(answer) == {pointer: "not_answerable"}
        [fault] = answer.get_json()["errors"]
        assert "version 1" in fault["detail"]
        assert "/rules/0/field_name" in fault["detail"]


def test_the_defaults_follow_the_version_at_creation_and_at_an_edit(partner: Api) -> None:
    saved = save(partner)
    task = partner.create(trigger=using(saved, cron="0 2 * * *"))
    assert (task["trigger"]["misfire"], task["trigger"]["overlap"]) == ("run_once", "skip")
    replace(partner, saved, segment(rules=[RELATIVE]))
    assert partner.task(task["id"])["trigger"]["misfire"] == "run_once"
    edited = partner.request("PATCH", f"/tasks/{task['id']}", {"trigger": using(saved, cron="0 3 * * *")}).get_json()
    assert (edited["trigger"]["misfire"], edited["trigger"]["overlap"]) == ("run_all", "buffer_all")


def test_an_edit_of_the_target_alone_is_judged_with_the_saved_segment(partner: Api) -> None:
    task = partner.create(trigger=using(save(partner)))
    edit = {"target": TARGET | {"export_index": "users"}}
    assert "clash" in pointers(partner.request("PATCH", f"/tasks/{task['id']}", edit)).values()


def test_each_run_uses_the_newest_version_of_its_time_and_a_retry_the_same(partner: Api) -> None:
    saved = save(partner)
    task = partner.create(trigger=using(saved, once="2020-01-01T00:00:00Z"))
    first = partner.claim()
    assert first.definition["trigger"]["segment"] == segment()
    partner.fail(first)
    assert partner.get(f"/runs/{first.run_id}").get_json()["segment"] == {"id": saved["id"], "version": 1}
    replace(partner, saved, price(50))
    partner.post(f"/runs/{first.run_id}/retry")
    retried = partner.claim()
    assert retried.definition == first.definition
    partner.fail(retried)
    partner.post(f"/tasks/{task['id']}/execute", Prefer="wait=0")
    executed = partner.claim()
    assert executed.definition["trigger"]["segment"] == price(50)
    runs = partner.get(f"/tasks/{task['id']}/runs").get_json()["results"]
    assert [one["segment"]["version"] for one in runs] == [2, 1, 1]


def test_the_file_holds_the_rows_of_the_version(partner: Api) -> None:
    saved = save(partner)
    task = partner.create(trigger=using(saved, once="2020-01-01T00:00:00Z"))
    worker = Worker(partner.services, name="worker")
    assert worker.work_once()
    assert partner.task(task["id"])["result"]["records_count"] == 2
    replace(partner, saved, price(50))
    partner.post(f"/tasks/{task['id']}/execute", Prefer="wait=0")
    assert worker.work_once()
    assert partner.task(task["id"])["result"]["records_count"] == 1


def test_a_run_without_a_saved_segment_shows_none(partner: Api) -> None:
    for trigger in ({}, {"segment": segment()}):
        partner.create(trigger={"once": "2020-01-01T00:00:00Z", **trigger})
        assert partner.get(f"/runs/{partner.claim().run_id}").get_json()["segment"] is None


# -- preview -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", [int, str])
def test_a_saved_segment_is_previewed_as_the_segment_itself(partner: Api, operator: Api, spelling: type) -> None:
    saved = save(partner)
    for caller in (partner, operator):
        answer = caller.post("/segments/preview", {"segment_id": spelling(saved["id"])})
        assert answer.get_json() == caller.post("/segments/preview", {"segment": segment()}).get_json()
        assert answer.get_json()["count"] == 2


def test_another_chains_saved_segment_is_not_previewed(partner: Api, stranger: Api) -> None:
    answer = stranger.post("/segments/preview", {"segment_id": save(partner)["id"]})
    assert pointers(answer) == {"/segment_id": "unknown_segment"}
