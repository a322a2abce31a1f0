from __future__ import annotations

from typing import Any

import pytest

from tasks_service.database import clients
from tasks_service.errors import StorageUnavailableError
from tests.unit.api.conftest import Api, World, pointers, segment, task_body

NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}
PAST = {"once": "2020-01-01T00:00:00Z"}


def done(partner: Api, **changes: Any) -> int:
    """A task that has run and has a file."""
    task_id: int = partner.create(**({"trigger": PAST} | changes))["id"]
    partner.publish(partner.claim())
    return task_id


# -- reading ----------------------------------------------------------------------------------------------------


def test_a_task_that_is_done_shows_its_result(partner: Api) -> None:
    task = partner.task(done(partner))
    assert task["state"]["code"] == "DONE"
    assert task["state"]["last_run_date"] is not None
    result = task["result"]
    assert (result["records_count"], result["bytes"], result["format"]) == (1, 17, "csv")
    assert "bucket" not in result
    assert "object" not in result
    assert {entry["event"] for entry in task["logs"]} >= {"task.created", "run.published"}
    assert [entry["run"] for entry in task["logs"]][-1] is None


def test_a_result_is_shown_only_while_the_task_is_done(partner: Api) -> None:
    task_id = done(partner)
    partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    assert partner.task(task_id)["result"] is None
    partner.fail(partner.claim())
    task = partner.task(task_id)
    assert (task["state"]["code"], task["state"]["reason"], task["result"]) == ("ERROR", "source_refused", None)


def test_log_entries_are_newest_first_and_paged(partner: Api) -> None:
    task_id = done(partner)
    everything = partner.get(f"/tasks/{task_id}?log_limit=100").get_json()["logs"]
    assert everything[-1]["event"] == "task.created"
    assert partner.get(f"/tasks/{task_id}?log_limit=2&offset=1").get_json()["logs"] == everything[1:3]
    assert partner.get(f"/tasks/{task_id}?log_limit=0").get_json()["logs"] == []


def test_the_etag_changes_with_what_is_shown(partner: Api) -> None:
    task_id = partner.create()["id"]
    tag = partner.get(f"/tasks/{task_id}").headers["ETag"]
    for header in (tag, f"W/{tag}", f'"0.0", {tag}', "*"):
        answer = partner.get(f"/tasks/{task_id}", If_None_Match=header)
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert partner.get(f"/tasks/{task_id}", If_None_Match='"9.9"').status_code == 200
    partner.post(f"/tasks/{task_id}/pause")
    after = partner.get(f"/tasks/{task_id}", If_None_Match=tag)
    assert after.status_code == 200
    assert after.headers["ETag"] != tag


def test_every_step_of_a_run_changes_the_etag(partner: Api) -> None:
    task_id = partner.create(trigger=PAST)["id"]
    tags = [partner.get(f"/tasks/{task_id}").headers["ETag"]]
    claim = partner.claim()
    tags.append(partner.get(f"/tasks/{task_id}").headers["ETag"])
    assert partner.task(task_id)["state"]["code"] == "INPROGRESS"
    partner.publish(claim)
    tags.append(partner.get(f"/tasks/{task_id}").headers["ETag"])
    assert len(set(tags)) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/execute"), ("POST", "/pause"), ("POST", "/resume"),
        ("GET", "/download_url"), ("GET", "/runs"),
    ],
)  # fmt: skip
def test_another_chains_task_is_answered_as_one_that_is_not(
    partner: Api, stranger: Api, method: str, path: str
) -> None:
    task_id = done(partner)
    body = {"desc": "x"} if method == "PATCH" else None
    foreign = stranger.request(method, f"/tasks/{task_id}{path}", body, X_Request_Id="same")
    absent = stranger.request(method, f"/tasks/987654{path}", body, X_Request_Id="same")
    assert (foreign.status_code, foreign.data) == (404, absent.data)
    assert partner.task(task_id)["state"]["code"] == "DONE"


def test_the_author_is_named_even_after_it_was_removed(world: World, partner: Api, operator: Api) -> None:
    task = partner.create()
    with world.services.database.write() as session:
        clients.remove_client(session, task["created_by"]["id"], now=world.services.database.now(session))
    assert operator.task(task["id"])["created_by"] == task["created_by"]


# -- editing ----------------------------------------------------------------------------------------------------


def patch(caller: Api, task_id: int, body: Any, **headers: str) -> Any:
    return caller.request("PATCH", f"/tasks/{task_id}", body, **headers)


def test_an_edit_changes_what_it_names_and_counts_a_version(partner: Api) -> None:
    task = partner.create()
    answer = patch(partner, task["id"], {"desc": "new"})
    assert answer.status_code == 200
    edited = answer.get_json()
    assert (edited["desc"], edited["version"]) == ("new", 2)
    assert (edited["target"], edited["trigger"]) == (task["target"], task["trigger"])
    assert answer.headers["ETag"] == partner.get(f"/tasks/{task['id']}").headers["ETag"]
    assert patch(partner, task["id"], {"desc": None}).get_json()["desc"] is None


def test_an_edited_trigger_moves_the_next_run(partner: Api) -> None:
    task_id = partner.create()["id"]
    edited = patch(partner, task_id, {"trigger": NIGHTLY}).get_json()
    assert edited["trigger"]["misfire"] == "run_once"
    assert edited["state"]["next_run_date"] == edited["next_run_dates"][0]
    again = patch(partner, task_id, {"trigger": {"once": "2998-01-01T00:00:00Z"}}).get_json()
    assert again["state"]["next_run_date"] == "2998-01-01T00:00:00Z"


def test_a_trigger_moved_into_the_past_runs_at_once(partner: Api) -> None:
    task_id = partner.create()["id"]
    assert patch(partner, task_id, {"trigger": PAST}).status_code == 200
    [run] = partner.get(f"/tasks/{task_id}/runs").get_json()["results"]
    assert (run["kind"], run["state"]) == ("schedule", "queued")


def test_a_run_keeps_the_definition_it_was_made_with(partner: Api) -> None:
    task_id = partner.create(trigger=NIGHTLY)["id"]
    partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    target = task_body()["target"] | {"export_format": "json"}
    assert patch(partner, task_id, {"target": target}).status_code == 200
    assert partner.claim().definition["target"]["export_format"] == "csv"
    assert partner.task(task_id)["target"]["export_format"] == "json"


@pytest.mark.parametrize("header", ['"1.1"', '"1.99"', '"1"', "1", "*", 'W/"1.1"', '"7.1", "1.1"'])
def test_of_a_tag_only_the_version_counts(partner: Api, header: str) -> None:
    task_id = partner.create()["id"]
    assert patch(partner, task_id, {"desc": "x"}, If_Match=header).status_code == 200


@pytest.mark.parametrize("header", ['"2.1"', '"x"', "", '"11.1"'])
def test_another_version_is_412(partner: Api, header: str) -> None:
    task_id = partner.create()["id"]
    for method in ("PATCH", "DELETE"):
        body = {"desc": "x"} if method == "PATCH" else None
        answer = partner.request(method, f"/tasks/{task_id}", body, If_Match=header)
        assert (answer.status_code, answer.get_json()["code"]) == (412, "precondition_failed")
    assert partner.task(task_id)["version"] == 1


def test_an_edit_between_the_check_and_the_write_is_checked_again(
    partner: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = partner.create()["id"]
    catalog, calls = world.services.source.catalog, []

    def meddling(index: Any) -> Any:
        calls.append(index)
        if len(calls) == 1:
            assert patch(partner, task_id, {"desc": "first"}).status_code == 200
        return catalog(index)

    monkeypatch.setattr(world.services.source, "catalog", meddling)
    edited = patch(partner, task_id, {"target": task_body()["target"] | {"export_format": "json"}}).get_json()
    assert (edited["desc"], edited["target"]["export_format"], edited["version"]) == ("first", "json", 3)
    assert len(calls) == 2


@pytest.mark.parametrize("body", [{"desc": "x"}, {"target": task_body()["target"]}, {"trigger": NIGHTLY}])
def test_a_once_that_has_run_cannot_be_edited(partner: Api, body: dict[str, Any]) -> None:
    task_id = done(partner)
    answer = patch(partner, task_id, body)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "already_ran")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"": "empty"}),
        ({"chain": 1}, {"/chain": "unknown_member"}),
        ({"target": None}, {"/target": "wrong_type"}),
        ({"trigger": None}, {"/trigger": "wrong_type"}),
        ({"trigger": {"cron": "x"}}, {"/trigger/cron": "invalid_cron"}),
        ({"target": {"action": "export"}}, {"/target/export_index": "missing"}),
        ({"trigger": NIGHTLY | {"segment": segment(index="users")}}, {"/trigger/segment/index": "other_index"}),
        (
            {"desc": 1, "target": {}},
            {"/desc": "wrong_type", "/target/action": "missing", "/target/export_index": "missing"},
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_edit_is_named(partner: Api, body: dict[str, Any], expected: dict[str, str]) -> None:
    task_id = partner.create()["id"]
    assert pointers(patch(partner, task_id, body)) == expected
    assert partner.task(task_id)["version"] == 1


def test_a_new_target_must_go_with_the_stored_segment(world: World, partner: Api) -> None:
    folder = world.services.settings.files.directory / "users"
    folder.mkdir()
    (folder / "users.jsonl").write_text('{"chain_id": 1764, "id": 1}\n')
    task_id = partner.create(trigger=NIGHTLY | {"segment": segment()})["id"]
    answer = patch(partner, task_id, {"target": {"action": "export", "export_index": "users"}})
    assert pointers(answer) == {"/target/export_index": "clash"}
    both = {
        "target": {"action": "export", "export_index": "users"},
        "trigger": NIGHTLY | {"segment": segment(index="users", rules=[])},
    }
    assert patch(partner, task_id, both).get_json()["target"]["export_index"] == "users"


def test_a_description_can_be_edited_while_the_source_is_away(
    world: World, partner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = partner.create()["id"]
    monkeypatch.setattr(world.services.source, "catalog", None)
    assert patch(partner, task_id, {"desc": "x"}).status_code == 200


# -- deleting ---------------------------------------------------------------------------------------------------


def test_a_deleted_task_is_gone_for_its_chain_and_readable_to_operators(partner: Api, operator: Api) -> None:
    task_id = done(partner)
    link = partner.get(f"/tasks/{task_id}/download_url").get_json()["url"]
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204
    for path in (
        f"/tasks/{task_id}",
        f"/tasks/{task_id}/runs",
        f"/tasks/{task_id}/download_url",
        "/runs/1",
        "/runs/1/download_url",
    ):
        assert partner.get(path).status_code == 404, path
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 404
    assert partner.get("/tasks").get_json()["results"] == []
    assert partner.client.get(link.removeprefix("http://exports.test")).status_code == 410
    assert operator.task(task_id)["logs"][0]["event"] == "task.deleted"
    assert operator.get("/runs/1").get_json()["state"] == "done"
    assert operator.get(f"/tasks/{task_id}/download_url").status_code == 410
    assert operator.get("/runs/1/download_url").status_code == 410
    assert operator.post(f"/tasks/{task_id}/execute").status_code == 404
    assert operator.post("/runs/1/retry").status_code == 404


def test_deleting_cancels_what_runs_and_what_is_queued(partner: Api, operator: Api) -> None:
    task_id = partner.create(trigger=PAST)["id"]
    claim = partner.claim()
    partner.request("DELETE", f"/tasks/{task_id}")
    run = operator.get(f"/runs/{claim.run_id}").get_json()
    assert (run["state"], run["cancel_requested"]) == ("running", True)


def test_deleting_succeeds_while_the_storage_is_away(
    world: World, partner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = done(partner)

    def away(*_: object, **__: object) -> None:
        raise StorageUnavailableError

    monkeypatch.setattr(world.services.storage, "delete", away)
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204


# -- pausing ----------------------------------------------------------------------------------------------------


def test_a_paused_task_has_no_next_run_until_it_is_resumed(partner: Api) -> None:
    created = partner.create(trigger=NIGHTLY)
    paused = partner.post(f"/tasks/{created['id']}/pause", {"note": "The season is over."}).get_json()
    assert paused["paused"]["note"] == "The season is over."
    assert (paused["state"]["next_run_date"], paused["next_run_dates"]) == (None, [])
    again = partner.post(f"/tasks/{created['id']}/pause", {"note": "other"}).get_json()
    assert again["paused"] == paused["paused"]
    partner.forward(days=3)
    resumed = partner.post(f"/tasks/{created['id']}/resume").get_json()
    assert resumed["paused"] is None
    assert len(resumed["next_run_dates"]) == 5
    assert resumed["state"]["next_run_date"] == resumed["next_run_dates"][0]
    assert "occurrence.skipped" in {entry["event"] for entry in resumed["logs"]}
    assert partner.get(f"/tasks/{created['id']}/runs").get_json()["results"] == []


def test_a_once_that_passed_while_paused_runs_when_resumed(partner: Api) -> None:
    soon = partner.now().replace(microsecond=0).isoformat()
    partner.forward(hours=-1)
    task_id = partner.create(trigger={"once": soon})["id"]
    partner.post(f"/tasks/{task_id}/pause")
    partner.forward(hours=2)
    partner.post(f"/tasks/{task_id}/resume")
    [run] = partner.get(f"/tasks/{task_id}/runs").get_json()["results"]
    assert run["kind"] == "schedule"


def test_pausing_and_resuming_take_no_other_members(partner: Api) -> None:
    task_id = partner.create()["id"]
    for call in ("pause", "resume"):
        assert pointers(partner.post(f"/tasks/{task_id}/{call}", {"nte": "x"})) == {"/nte": "unknown_member"}
        assert pointers(partner.post(f"/tasks/{task_id}/{call}", {"note": 1})) == {"/note": "wrong_type"}
