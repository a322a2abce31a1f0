from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks_service.api.tags import wait_wanted
from tasks_service.database import zone_rules
from tasks_service.database.models import Run, Task
from tasks_service.errors import DatabaseUnavailableError
from tasks_service.runner import Worker
from tests import zone_files
from tests.unit.api.conftest import Api, World, segment, standing

NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}
PAST = {"once": "2020-01-01T00:00:00Z"}


def nightly(caller: Api) -> int:
    task_id: int = caller.create(trigger=NIGHTLY)["id"]
    return task_id


def executed(caller: Api, task_id: int) -> int:
    """Queue a manual run without waiting; its id."""
    answer = caller.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    assert answer.status_code == 202, answer.text
    return int(answer.headers["Location"].removeprefix("/runs/"))


# -- executing --------------------------------------------------------------------------------------------------


def test_execute_waits_for_the_end_and_answers_the_bare_state(world: World, partner: Api) -> None:
    task_id = nightly(partner)
    world.waits += [lambda: None, lambda: partner.publish(partner.claim())]
    answer = partner.post(f"/tasks/{task_id}/execute")
    assert answer.status_code == 200
    state = answer.get_json()
    assert state["code"] == "DONE"
    assert state == partner.task(task_id)["state"]


def test_execute_answers_how_a_failed_run_ended(world: World, partner: Api) -> None:
    task_id = nightly(partner)
    world.waits.append(lambda: partner.fail(partner.claim()))
    answer = partner.post(f"/tasks/{task_id}/execute")
    assert (answer.status_code, answer.get_json()["code"]) == (200, "ERROR")


def move(world: World, task_id: int, zone: str) -> None:
    """Give a stored task a zone that this host's data does not have."""
    with world.services.database.write() as session:
        task = session.get_one(Task, task_id)
        task.trigger = task.trigger | {"timezone": zone}


def test_execute_of_a_task_whose_zone_was_removed_fails_once_and_says_what_to_change(
    world: World, partner: Api
) -> None:
    task_id = partner.create(trigger=NIGHTLY | {"segment": segment()})["id"]
    move(world, task_id, "Gone/Zone")
    run_id, worker = executed(partner, task_id), Worker(world.services)
    assert worker.work_once()
    run = partner.get(f"/runs/{run_id}").get_json()
    assert (run["state"], run["reason"], len(run["attempts"])) == ("failed", "zone_gone", 1)
    assert "with another `timezone`" in run["detail"]
    assert not worker.work_once()
    edited = partner.request("PATCH", f"/tasks/{task_id}", {"trigger": NIGHTLY | {"segment": segment()}})
    assert edited.status_code == 200
    executed(partner, task_id)
    assert worker.work_once()
    assert partner.task(task_id)["state"]["code"] == "DONE"


def test_a_zone_is_not_gone_for_a_run_that_needs_none_or_where_another_host_had_it(
    world: World, partner: Api, tmp_path: Path
) -> None:
    every_row, elsewhere = nightly(partner), partner.create(trigger=NIGHTLY | {"segment": segment()})["id"]
    move(world, every_row, "Gone/Zone")
    move(world, elsewhere, "New/Zone")
    database, trigger = world.services.database, NIGHTLY | {"timezone": "New/Zone"}
    host = zone_files.host(zone_files.write(tmp_path, "2099z", {"New/Zone": zone_files.compiled(1)}))
    with host, database.write() as session:
        zone_rules.holding(session, [trigger], now=database.now(session))
    worker = Worker(world.services)
    for task_id in (every_row, elsewhere):
        executed(partner, task_id)
        assert worker.work_once()
        assert partner.task(task_id)["state"]["code"] == "DONE"


def test_a_run_that_takes_longer_is_202_with_its_place(world: World, partner: Api) -> None:
    task_id = nightly(partner)
    waited: list[float] = []
    world.waits += [lambda: waited.append(1)] * 1000
    answer = partner.post(f"/tasks/{task_id}/execute", Prefer="wait=7")
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=7"
    assert int(answer.headers["Retry-After"]) > 0
    run = partner.get(answer.headers["Location"]).get_json()
    assert (run["kind"], run["state"], run["task"]) == ("manual", "queued", task_id)
    assert run["occurrence"] == run["created_date"]
    assert 7 <= len(waited) <= 20
    assert partner.task(task_id)["state"]["next_run_date"] is not None, "the schedule is unchanged"


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async"])
def test_execute_need_not_wait(world: World, partner: Api, prefer: str) -> None:
    world.waits.append(lambda: pytest.fail("it waited"))
    assert partner.post(f"/tasks/{nightly(partner)}/execute", Prefer=prefer).status_code == 202


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 60), ("", 60), ("wait=5", 5), ("wait=301", 300), ("wait=999999999", 300), ("respond-async", 0),
        ("respond-async, wait=10", 10), ("Wait = 10", 10), ('wait="10"', 10), ("wait=-1", 60), ("wait=x", 60),
        ("return=minimal", 60), ("wait=10, wait=20", 10), ("wait=9999999999999999999999", 60),
    ],
)  # fmt: skip
def test_a_preference_is_a_wish(prefer: str | None, seconds: int) -> None:
    assert wait_wanted(prefer) == seconds


def test_at_most_a_quarter_of_the_threads_wait(tmp_path: Any, migrated: Any, contract: Any) -> None:
    with standing(tmp_path, migrated, contract, web={"threads": 4}) as world:
        partner = world.caller()
        first, second = nightly(partner), nightly(partner)
        inside, leave = threading.Event(), threading.Event()

        def sit() -> None:
            inside.set()
            assert leave.wait(timeout=60)

        world.waits.append(sit)
        waiting = threading.Thread(target=lambda: partner.post(f"/tasks/{first}/execute", Prefer="wait=1"))
        waiting.start()
        assert inside.wait(timeout=60)
        # The one seat is taken: whoever comes now is answered at once.
        world.waits.append(lambda: pytest.fail("a second request waited"))
        assert (
            Api(world.app.test_client(), partner.token, world.services, contract)
            .post(f"/tasks/{second}/execute")
            .status_code
            == 202
        )
        world.waits.clear()
        leave.set()
        waiting.join(timeout=60)
        assert not waiting.is_alive()


def test_with_three_threads_nobody_waits(tmp_path: Any, migrated: Any, contract: Any) -> None:
    with standing(tmp_path, migrated, contract, web={"threads": 3}) as world:
        world.waits.append(lambda: pytest.fail("it waited"))
        partner = world.caller()
        assert partner.post(f"/tasks/{nightly(partner)}/execute").status_code == 202


def test_a_seat_is_free_again_after_an_error(world: World, partner: Api) -> None:
    def fails() -> None:
        raise RuntimeError("broken")

    for _ in range(3):
        world.waits.append(fails)
        answer = partner.client.post(
            f"/tasks/{nightly(partner)}/execute", headers={"Authorization": f"Bearer {partner.token}"}
        )
        assert answer.status_code == 500
    world.waits.append(lambda: partner.publish(partner.claim()))
    task_id = nightly(partner)
    while partner.get("/runs/1").get_json()["state"] == "queued":
        partner.publish(partner.claim())
    assert partner.post(f"/tasks/{task_id}/execute").status_code in {200, 202}


def test_a_database_that_is_away_while_waiting_is_asked_again(
    world: World, partner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks_service.database import runs

    task_id, get_run, calls = nightly(partner), runs.get_run, []

    def away(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise DatabaseUnavailableError
        return get_run(*arguments, **named)

    monkeypatch.setattr(runs, "get_run", away)
    world.waits += [lambda: None, lambda: partner.publish(partner.claim())]
    assert partner.post(f"/tasks/{task_id}/execute").status_code == 200


@pytest.mark.parametrize("claimed", [False, True])
def test_while_a_run_is_going_another_is_refused(partner: Api, *, claimed: bool) -> None:
    task_id = nightly(partner)
    run_id = executed(partner, task_id)
    if claimed:
        partner.claim()
    answer = partner.post(f"/tasks/{task_id}/execute")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "run_going")
    assert str(run_id) in answer.get_json()["detail"]


def test_executing_before_a_once_takes_its_place(partner: Api) -> None:
    task_id = partner.create()["id"]
    executed(partner, task_id)
    task = partner.task(task_id)
    assert task["state"]["next_run_date"] is None
    partner.publish(partner.claim())
    assert partner.request("PATCH", f"/tasks/{task_id}", {"desc": "x"}).status_code == 409
    assert executed(partner, task_id), "a task that has run may be executed again"


def test_a_paused_task_may_be_executed(partner: Api) -> None:
    task_id = nightly(partner)
    partner.post(f"/tasks/{task_id}/pause")
    executed(partner, task_id)
    assert partner.task(task_id)["paused"] is not None


@pytest.mark.parametrize("body", [None, {}])
def test_execute_takes_no_body_or_an_empty_one(partner: Api, body: Any) -> None:
    assert partner.post(f"/tasks/{nightly(partner)}/execute", body, Prefer="wait=0").status_code == 202


# -- runs -------------------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_went_through(partner: Api) -> None:
    task_id = partner.create(trigger=PAST)["id"]
    claim = partner.claim()
    partner.publish(claim)
    run = partner.get(f"/runs/{claim.run_id}").get_json()
    assert (run["task"], run["state"], run["kind"]) == (task_id, "done", "schedule")
    assert [(one["number"], one["outcome"]) for one in run["attempts"]] == [(1, "published")]
    assert [one["event"] for one in run["events"]][-1] == "run.published"
    assert run["query"] == {"query": 1}
    assert run["artifact"]["run"] == claim.run_id
    assert partner.get(f"/tasks/{task_id}/runs").get_json()["results"] == [run]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/download_url"), ("GET", "/manifest_url"), ("POST", "/cancel"), ("POST", "/retry")],
)
def test_another_chains_run_is_answered_as_one_that_is_not(partner: Api, stranger: Api, method: str, path: str) -> None:
    run_id = executed(partner, nightly(partner))
    foreign = stranger.request(method, f"/runs/{run_id}{path}", X_Request_Id="same")
    absent = stranger.request(method, f"/runs/987654{path}", X_Request_Id="same")
    assert (foreign.status_code, foreign.data) == (404, absent.data)
    assert partner.get(f"/runs/{run_id}").get_json()["state"] == "queued"


def test_a_queued_run_is_cancelled_at_once(partner: Api) -> None:
    task_id = nightly(partner)
    run_id = executed(partner, task_id)
    answer = partner.post(f"/runs/{run_id}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
    state = partner.task(task_id)["state"]
    assert (state["code"], state["reason"]) == ("ERROR", "cancelled")
    again = partner.post(f"/runs/{run_id}/cancel")
    assert (again.status_code, again.get_json()["code"]) == (409, "run_ended")


def test_a_running_run_is_asked_to_end(partner: Api) -> None:
    run_id = executed(partner, nightly(partner))
    partner.claim()
    for _ in range(2):
        answer = partner.post(f"/runs/{run_id}/cancel")
        assert (answer.status_code, answer.get_json()["cancel_requested"]) == (202, True)
        assert answer.headers["Location"] == f"/runs/{run_id}"


def test_a_run_that_ended_can_be_repeated_with_its_own_definition(partner: Api) -> None:
    task_id = nightly(partner)
    run_id = executed(partner, task_id)
    going = partner.post(f"/runs/{run_id}/retry")
    assert (going.status_code, going.get_json()["code"]) == (409, "run_going")
    claim = partner.claim()
    partner.fail(claim)
    partner.request(
        "PATCH", f"/tasks/{task_id}", {"target": {"action": "export", "export_index": "products", "format": "json"}}
    )
    partner.forward(hours=5)
    answer = partner.post(f"/runs/{run_id}/retry")
    assert answer.status_code == 202
    repeat = answer.get_json()
    assert (repeat["kind"], repeat["repeats"], repeat["state"]) == ("retry", run_id, "queued")
    assert repeat["occurrence"] == partner.get(f"/runs/{run_id}").get_json()["occurrence"]
    assert answer.headers["Location"] == f"/runs/{repeat['id']}"
    assert partner.claim().definition["target"]["export_format"] == "csv"
    twice = partner.post(f"/runs/{run_id}/retry")
    assert (twice.status_code, twice.get_json()["code"]) == (409, "run_going")


# -- links ------------------------------------------------------------------------------------------------------


def done(caller: Api, content: bytes | None = b"id,name\r\n1,Lamp\r\n") -> tuple[int, int]:
    task_id = caller.create(trigger=PAST)["id"]
    claim = caller.claim()
    caller.publish(claim, content)
    return task_id, claim.run_id


@pytest.mark.parametrize("path", ["/tasks/{task}/download_url", "/runs/{run}/download_url"])
def test_a_link_leads_to_the_file_for_about_an_hour(partner: Api, path: str) -> None:
    task_id, run_id = done(partner)
    answer = partner.get(path.format(task=task_id, run=run_id))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    link = answer.get_json()
    assert link["file_name"] == f"Product_Export-{task_id}.csv"
    assert (link["records_count"], link["bytes"]) == (1, 17)
    with partner.client.get(link["url"].removeprefix("http://exports.test")) as file:
        assert file.data == b"id,name\r\n1,Lamp\r\n"
        assert link["file_name"] in file.headers["Content-Disposition"]


@pytest.mark.parametrize("path", ["/tasks/{task}/manifest_url", "/runs/{run}/manifest_url"])
def test_the_manifest_has_a_link_of_its_own(partner: Api, path: str) -> None:
    task_id, run_id = done(partner)
    answer = partner.get(path.format(task=task_id, run=run_id))
    assert answer.status_code == 200
    link = answer.get_json()
    assert (link["file_name"], link["bytes"]) == (f"Product_Export-{task_id}.csv.manifest.json", 2)
    assert link["sha256"] == hashlib.sha256(b"{}").hexdigest()
    with partner.client.get(link["url"].removeprefix("http://exports.test")) as manifest:
        assert (manifest.data, manifest.content_type) == (b"{}", "application/json")


def test_numbered_files_have_a_link_each_and_none_for_all(partner: Api) -> None:
    task_id = partner.create(trigger=PAST)["id"]
    claim = partner.claim()
    parts = [b"id\r\n1\r\n", b"id\r\n2\r\n"]
    partner.publish_split(claim, parts)
    link = partner.get(f"/tasks/{task_id}/download_url").get_json()
    assert (link["url"], link["sha256"], link["records_count"]) == (None, None, 2)
    assert (link["file_name"], link["bytes"]) == (f"Product_Export-{task_id}.csv", 14)
    for number, (one, content) in enumerate(zip(link["files"], parts, strict=True), start=1):
        assert one["file_name"] == f"Product_Export-{task_id}-000{number}.csv"
        assert (one["records_count"], one["sha256"]) == (1, hashlib.sha256(content).hexdigest())
        with partner.client.get(one["url"].removeprefix("http://exports.test")) as file:
            assert file.data == content
    result = partner.task(task_id)["result"]
    assert (result["sha256"], [one["bytes"] for one in result["files"]]) == (None, [7, 7])
    partner.request("DELETE", f"/tasks/{task_id}")
    assert list(partner.services.storage.list("")) == []


def test_links_to_many_files_are_signed_at_once(partner: Api) -> None:
    task_id = partner.create(trigger=PAST)["id"]
    partner.publish_split(partner.claim(), [b"id\r\n%d\r\n" % row for row in range(4)])
    together = threading.Barrier(4, timeout=30)
    storage = partner.services.storage
    sign = storage.sign
    try:
        object.__setattr__(storage, "sign", lambda *a, **k: (together.wait(), sign(*a, **k))[1])
        link = partner.get(f"/tasks/{task_id}/download_url").get_json()
    finally:
        object.__delattr__(storage, "sign")
    names = [f"Product_Export-{task_id}-000{number}.csv" for number in range(1, 5)]
    assert [one["file_name"] for one in link["files"]] == names


def test_a_run_of_before_there_were_manifests_says_so(partner: Api) -> None:
    task_id, run_id = done(partner)
    with partner.services.database.write() as session:
        run = session.get_one(Run, run_id)
        assert run.artifact is not None
        run.artifact = {name: value for name, value in run.artifact.items() if name not in {"manifest", "stored_at"}}
    answer = partner.get(f"/tasks/{task_id}/manifest_url")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "no_manifest")
    assert partner.get(f"/tasks/{task_id}/download_url").status_code == 200


def test_a_link_is_made_anew_each_time_and_kept_nowhere(
    partner: Api, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id, _ = done(partner)
    url = partner.get(f"/tasks/{task_id}/download_url").get_json()["url"]
    token = url.split("/")[-2]
    out = capsys.readouterr()
    assert "link.made" in out.out + out.err
    assert token not in out.out + out.err
    database = world.services.database.path
    assert database is not None
    for file in database.parent.glob("tasks.db*"):
        assert token.encode() not in file.read_bytes()


def test_a_link_does_not_outlive_its_file(partner: Api) -> None:
    task_id, _ = done(partner)
    partner.forward(days=29, hours=23, minutes=50)
    expires = partner.task(task_id)["result"]["expires_at"]
    seconds: list[timedelta] = []
    storage = partner.services.storage
    sign = storage.sign
    try:
        object.__setattr__(storage, "sign", lambda *a, **k: (seconds.append(k["lifetime"]), sign(*a, **k))[1])
        assert partner.get(f"/tasks/{task_id}/download_url").status_code == 200
    finally:
        object.__delattr__(storage, "sign")
    assert timedelta(minutes=9) < seconds[0] <= timedelta(minutes=10), expires


def test_an_expired_file_is_gone(partner: Api) -> None:
    task_id, run_id = done(partner)
    partner.forward(days=30)
    for path in (f"/tasks/{task_id}/download_url", f"/runs/{run_id}/download_url"):
        answer = partner.get(path)
        assert (answer.status_code, answer.get_json()["code"]) == (410, "gone")


def test_a_task_that_is_not_done_tells_its_state_and_the_latest_file(partner: Api) -> None:
    task_id = partner.create()["id"]
    answer = partner.get(f"/tasks/{task_id}/download_url")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "not_done")
    assert (answer.get_json()["state"]["code"], answer.get_json()["run"]) == ("READY", None)
    run_id = executed(partner, task_id)
    partner.publish(partner.claim())
    executed(partner, task_id)
    partner.fail(partner.claim())
    answer = partner.get(f"/tasks/{task_id}/download_url")
    assert (answer.get_json()["state"]["code"], answer.get_json()["run"]) == ("ERROR", run_id)
    assert partner.get(f"/runs/{run_id}/download_url").status_code == 200
    failed = partner.get(f"/runs/{run_id + 1}/download_url")
    assert (failed.status_code, failed.get_json()["code"]) == (409, "not_done")


def test_a_run_without_a_file_says_so(partner: Api) -> None:
    task_id, run_id = done(partner, None)
    assert partner.task(task_id)["result"] is None
    for path in (f"/tasks/{task_id}/download_url", f"/runs/{run_id}/download_url"):
        answer = partner.get(path)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "no_file")
        assert answer.get_json()["state"]["code"] == "DONE"


def test_a_link_ends_with_its_file(partner: Api) -> None:
    task_id, _ = done(partner)
    link = partner.get(f"/tasks/{task_id}/download_url").get_json()["url"].removeprefix("http://exports.test")
    partner.request("DELETE", f"/tasks/{task_id}")
    assert partner.client.get(link).status_code == 410
