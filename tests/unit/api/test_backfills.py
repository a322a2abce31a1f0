"""Backfills over HTTP: what is asked for is what runs, some at a time, and never at the expense of what is due now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from tasks_service import metrics
from tasks_service.config import Settings
from tasks_service.database import models
from tasks_service.scheduler import Scheduler
from tests import measured
from tests.unit.api.conftest import Api, World, pointers, standing

NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}


def night(number: int) -> str:
    """A night of May 2026, as an occurrence of NIGHTLY."""
    return f"2026-05-{number:02d}T00:00:00Z"


@pytest.fixture
def task_id(partner: Api) -> int:
    return int(partner.create(trigger=NIGHTLY)["id"])


def tick(world: World) -> None:
    """What a scheduler does at its next look."""
    Scheduler(world.services.database, world.services.executor, world.services.settings).tick()


def may(first: int, last: int, **more: Any) -> dict[str, Any]:
    return {"start": night(first), "end": night(last)} | more


def made(partner: Api, task_id: int, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = partner.post(f"/tasks/{task_id}/backfill", body, **headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/backfills/{answer.get_json()['id']}"
    return answer.get_json()


def runs_of(partner: Api, task_id: int) -> list[dict[str, Any]]:
    return list(reversed(partner.get(f"/tasks/{task_id}/runs").get_json()["results"]))


def test_a_dry_run_says_what_would_run_and_stores_nothing(partner: Api, task_id: int) -> None:
    before = partner.task(task_id)
    answer = partner.post(f"/tasks/{task_id}/backfill", may(1, 11, dry_run=True))
    assert answer.status_code == 200
    assert answer.get_json() == {
        "task": task_id,
        "start": night(1),
        "end": night(11),
        "reprocess": "none",
        "concurrency": 1,
        "total": 10,
        "skipped": 0,
        "to_run": 10,
        "first": night(1),
        "last": night(10),
        "occurrences": [night(number) for number in range(1, 11)],
    }
    assert partner.get(f"/tasks/{task_id}/backfills").get_json()["results"] == []
    assert partner.task(task_id) == before


def test_a_dry_run_lists_a_hundred_at_most(partner: Api) -> None:
    task_id = partner.create(trigger={"cron": "0 * * * *"})["id"]
    found = partner.post(f"/tasks/{task_id}/backfill", may(1, 11, dry_run=True)).get_json()
    assert (found["to_run"], len(found["occurrences"])) == (240, 100)
    assert found["last"] == "2026-05-10T23:00:00Z"


def test_a_backfill_runs_its_occurrences_one_after_another_to_its_end(
    world: World, partner: Api, operator: Api, task_id: int
) -> None:
    backfill = made(partner, task_id, may(1, 4))
    assert backfill["state"] == "running"
    assert backfill["progress"] == {
        "total": 3, "waiting": 2, "queued": 1, "running": 0, "done": 0, "failed": 0, "cancelled": 0, "skipped": 0
    }  # fmt: skip
    token = {"Authorization": f"Bearer {operator.token}"}
    counted = measured.said(world.app.test_client().get("/metrics", headers=token).text)
    assert counted.of(metrics.BACKFILL_WAITING) == 2
    for number in range(1, 4):
        tick(world)
        [run] = [one for one in runs_of(partner, task_id) if one["state"] == "queued"]
        assert (run["kind"], run["occurrence"], run["backfill"]) == ("backfill", night(number), backfill["id"])
        claim = partner.claim()
        assert claim.occurrence == datetime.fromisoformat(night(number)), "the moment its segment is read at"
        partner.publish(claim)
    tick(world)
    ended = partner.get(f"/backfills/{backfill['id']}").get_json()
    assert (ended["state"], ended["progress"]["done"]) == ("done", 3)
    assert ended["finished_date"] is not None
    logs = partner.get(f"/tasks/{task_id}?log_limit=50").get_json()["logs"]
    said = [one["event"] for one in logs if one["event"].startswith("backfill")]
    assert said == ["backfill.done", "backfill.created"]


def test_the_range_is_half_open_in_the_tasks_own_zone_over_both_edges_of_summer(partner: Api) -> None:
    task_id = partner.create(trigger={"cron": "30 2 * * *", "timezone": "Europe/Amsterdam"})["id"]

    def occurrences(start: str, end: str) -> list[str]:
        body = {"start": start, "end": end, "dry_run": True}
        found: list[str] = partner.post(f"/tasks/{task_id}/backfill", body).get_json()["occurrences"]
        return found

    spring = occurrences("2026-03-28T00:00:00", "2026-03-31T00:00:00")
    assert spring == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    autumn = occurrences("2025-10-25T00:00:00", "2025-10-28T00:00:00")
    assert autumn == ["2025-10-25T00:30:00Z", "2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"]
    assert occurrences(autumn[0], autumn[1]) == autumn[:1]


@pytest.mark.parametrize(
    ("reprocess", "expected"),
    [("none", [4, 5]), ("failed", [2, 3, 4, 5]), ("all", [1, 2, 3, 4, 5])],
)
def test_the_newest_run_of_an_occurrence_decides_whether_it_is_run_again(
    world: World, partner: Api, task_id: int, reprocess: str, expected: list[int]
) -> None:
    """The first of May ended well, the second failed, the third was cancelled, the others have no run."""
    made(partner, task_id, may(1, 4))
    partner.publish(partner.claim())
    tick(world)
    partner.fail(partner.claim())
    tick(world)
    [queued] = [one for one in runs_of(partner, task_id) if one["state"] == "queued"]
    assert partner.post(f"/runs/{queued['id']}/cancel").status_code == 200
    tick(world)
    found = partner.post(f"/tasks/{task_id}/backfill", may(1, 6, reprocess=reprocess, dry_run=True)).get_json()
    assert found["occurrences"] == [night(number) for number in expected]
    assert found["skipped"] == 5 - len(expected)
    backfill = made(partner, task_id, may(1, 6, reprocess=reprocess))
    assert backfill["progress"]["skipped"] == 5 - len(expected)


def test_what_is_going_is_left_alone_even_by_all(world: World, partner: Api, task_id: int) -> None:
    first = made(partner, task_id, may(1, 2))
    claim = partner.claim()
    assert partner.post(f"/backfills/{first['id']}/cancel").status_code == 202
    found = partner.post(f"/tasks/{task_id}/backfill", may(1, 3, reprocess="all", dry_run=True)).get_json()
    assert found["occurrences"] == [night(2)]
    partner.publish(claim)


def test_a_backfill_with_nothing_to_run_is_done_at_once(world: World, partner: Api, task_id: int) -> None:
    made(partner, task_id, may(1, 2))
    partner.publish(partner.claim())
    tick(world)
    again = made(partner, task_id, may(1, 2))
    assert (again["state"], again["progress"]["skipped"]) == ("done", 1)


def test_as_many_go_at_a_time_as_it_says(world: World, partner: Api, task_id: int) -> None:
    backfill = made(partner, task_id, may(1, 11, concurrency=3))
    tick(world)
    found = partner.get(f"/backfills/{backfill['id']}").get_json()["progress"]
    assert (found["queued"], found["waiting"]) == (3, 7)
    claims = [partner.claim() for _ in range(3)]
    partner.publish(claims[0])
    partner.fail(claims[1])
    tick(world)
    found = partner.get(f"/backfills/{backfill['id']}").get_json()["progress"]
    assert (found["running"], found["queued"], found["done"], found["failed"]) == (1, 2, 1, 1)
    assert sum(count for name, count in found.items() if name != "total") == found["total"]


def test_the_task_shows_its_schedule_and_not_its_backfill(world: World, partner: Api, task_id: int) -> None:
    partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    partner.publish(partner.claim())
    shown = partner.task(task_id)
    assert shown["state"]["code"] == "DONE"
    backfill = made(partner, task_id, may(1, 3))
    claim = partner.claim()
    assert partner.task(task_id)["state"]["code"] == "DONE"
    partner.fail(claim)
    tick(world)
    partner.publish(partner.claim())
    tick(world)
    after = partner.task(task_id)
    assert after["result"] == shown["result"]
    for member in ("code", "reason", "last_run_date", "next_run_date"):
        assert after["state"][member] == shown["state"][member]
    assert partner.get(f"/backfills/{backfill['id']}").get_json()["state"] == "failed"
    link = partner.get(f"/tasks/{task_id}/download_url").get_json()
    assert link["sha256"] == shown["result"]["sha256"]


def test_a_failed_run_of_a_backfill_is_repeated_as_a_part_of_it(world: World, partner: Api, task_id: int) -> None:
    backfill = made(partner, task_id, may(1, 2))
    claim = partner.claim()
    partner.fail(claim)
    tick(world)
    assert partner.get(f"/backfills/{backfill['id']}").get_json()["state"] == "failed"
    repeat = partner.post(f"/runs/{claim.run_id}/retry").get_json()
    assert (repeat["kind"], repeat["backfill"], repeat["occurrence"]) == ("retry", backfill["id"], night(1))
    assert partner.get(f"/backfills/{backfill['id']}").get_json()["state"] == "running"
    partner.publish(partner.claim())
    tick(world)
    ended = partner.get(f"/backfills/{backfill['id']}").get_json()
    assert (ended["state"], ended["progress"]["done"], ended["progress"]["failed"]) == ("done", 1, 0)
    assert partner.task(task_id)["state"]["code"] == "READY"


def test_its_runs_are_made_as_the_task_was_when_it_was_asked_for(world: World, partner: Api, task_id: int) -> None:
    made(partner, task_id, may(1, 3))
    assert partner.request("PATCH", f"/tasks/{task_id}", {"trigger": {"cron": "0 5 * * *"}}).status_code == 200
    partner.publish(partner.claim())
    tick(world)
    second = partner.claim()
    assert second.definition["trigger"]["cron"] == NIGHTLY["cron"]
    assert second.occurrence == datetime.fromisoformat(night(2))


def test_cancelling_gives_up_what_waits_and_ends_what_runs(world: World, partner: Api, task_id: int) -> None:
    backfill = made(partner, task_id, may(1, 11, concurrency=2))
    partner.publish(partner.claim())
    running = partner.claim()
    tick(world)
    answer = partner.post(f"/backfills/{backfill['id']}/cancel")
    assert answer.status_code == 202
    found = answer.get_json()
    assert (found["state"], found["reason"]) == ("cancelled", "cancelled")
    assert found["progress"] | {"total": 10} == {
        "total": 10, "waiting": 0, "queued": 0, "running": 1, "done": 1, "failed": 0, "cancelled": 8, "skipped": 0
    }  # fmt: skip
    assert partner.get(f"/runs/{running.run_id}").get_json()["cancel_requested"] is True
    tick(world)
    assert len(runs_of(partner, task_id)) == 3
    again = partner.post(f"/backfills/{backfill['id']}/cancel")
    assert (again.status_code, again.get_json()["code"]) == (409, "backfill_ended")


def test_a_deleted_task_ends_its_backfill(world: World, partner: Api, operator: Api, task_id: int) -> None:
    backfill = made(partner, task_id, may(1, 11))
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204
    tick(world)
    assert partner.get(f"/backfills/{backfill['id']}").status_code == 404
    found = operator.get(f"/backfills/{backfill['id']}").get_json()
    assert (found["state"], found["reason"], found["progress"]["cancelled"]) == ("cancelled", "task_deleted", 10)


def test_a_paused_task_is_backfilled_and_one_the_service_paused_waits(world: World, partner: Api, task_id: int) -> None:
    partner.post(f"/tasks/{task_id}/pause", {"note": "Looking at it."})
    backfill = made(partner, task_id, may(1, 4))
    partner.publish(partner.claim())
    tick(world)
    partner.publish(partner.claim())
    with world.services.database.write() as session:
        session.get_one(models.Task, task_id).paused_reason = "failures"
    tick(world)
    assert partner.get(f"/backfills/{backfill['id']}").get_json()["progress"]["waiting"] == 1
    partner.post(f"/tasks/{task_id}/resume")
    tick(world)
    assert partner.get(f"/backfills/{backfill['id']}").get_json()["progress"]["waiting"] == 0


def test_one_backfill_of_a_task_at_a_time(partner: Api, task_id: int) -> None:
    made(partner, task_id, may(1, 3))
    answer = partner.post(f"/tasks/{task_id}/backfill", may(3, 5))
    assert (answer.status_code, answer.get_json()["code"]) == (409, "backfill_running")


def test_a_task_of_one_moment_has_nothing_to_go_back_over(partner: Api) -> None:
    task_id = partner.create()["id"]
    answer = partner.post(f"/tasks/{task_id}/backfill", may(1, 3))
    assert (answer.status_code, answer.get_json()["code"]) == (409, "no_schedule")


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"/start": "missing", "/end": "missing"}),
        (may(1, 3, reprocess="x", concurrency=0), {"/reprocess": "not_allowed", "/concurrency": "out_of_range"}),
        (may(1, 3) | {"concurrency": 11}, {"/concurrency": "out_of_range"}),
        ({"start": "soon", "end": "2026-05-01"}, {"/start": "invalid_date", "/end": "invalid_date"}),
        (may(3, 3), {"": "clash"}),
        ({"start": night(1), "end": "2999-01-01T00:00:00Z"}, {"/end": "out_of_range"}),
        ({"start": "1969-12-31T23:59:59Z", "end": night(1)}, {"/start": "out_of_range"}),
        ({"start": "2026-05-01T00:00:01Z", "end": "2026-05-01T23:00:00Z"}, {"": "no_occurrence"}),
        (may(1, 3) | {"limit": 7}, {"/limit": "unknown_member"}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_would_be_right(
    partner: Api, task_id: int, body: dict[str, Any], faults: dict[str, str]
) -> None:
    assert pointers(partner.post(f"/tasks/{task_id}/backfill", body)) == faults


def test_a_range_of_too_many_occurrences_is_refused_with_where_to_end(
    tmp_path: Any, migrated: Any, contract: Any
) -> None:
    with standing(tmp_path, migrated, contract, limits={"backfill_occurrences": 24}) as world:
        partner = world.caller()
        task_id = partner.create(trigger={"cron": "0 * * * *"})["id"]
        answer = partner.post(f"/tasks/{task_id}/backfill", may(1, 3))
        assert pointers(answer) == {"/end": "too_many"}
        assert "end it at 2026-05-02T00:00:00Z" in answer.text
        assert partner.post(f"/tasks/{task_id}/backfill", may(1, 2)).status_code == 201


def test_a_full_queue_is_429_and_a_nearly_full_one_is_not_filled(tmp_path: Any, migrated: Any, contract: Any) -> None:
    with standing(tmp_path, migrated, contract, limits={"queued_per_chain": 2}) as world:
        partner = world.caller()
        first, second, third = (int(partner.create(trigger=NIGHTLY)["id"]) for _ in range(3))
        partner.post(f"/tasks/{first}/execute", Prefer="wait=0")
        backfill = made(partner, second, may(1, 6, concurrency=5))
        assert backfill["progress"]["queued"] == 1
        answer = partner.post(f"/tasks/{third}/backfill", may(1, 6))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")


def test_the_backfills_of_a_chain_share_its_places(tmp_path: Any, migrated: Any, contract: Any) -> None:
    """Fifteen backfills of five at a time queue no more than the ten runs a chain may have going."""
    with standing(tmp_path, migrated, contract) as world:
        partner = world.caller()
        for _ in range(15):
            made(partner, int(partner.create(trigger=NIGHTLY)["id"]), may(1, 8, concurrency=5))
        tick(world)
        with world.services.database.read() as session:
            runs = session.exec(select(models.Run)).all()
        assert [(run.kind, run.state) for run in runs] == [("backfill", "queued")] * 10


def test_the_same_request_under_a_key_makes_one_backfill(partner: Api, task_id: int) -> None:
    first = made(partner, task_id, may(1, 3), Idempotency_Key="again")
    answer = partner.post(f"/tasks/{task_id}/backfill", may(1, 3), Idempotency_Key="again")
    assert (answer.status_code, answer.get_json()) == (201, first)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert partner.post(f"/tasks/{task_id}/backfill", may(1, 4), Idempotency_Key="again").status_code == 422
    other = partner.create(trigger=NIGHTLY)["id"]
    assert partner.post(f"/tasks/{other}/backfill", may(1, 3), Idempotency_Key="again").status_code == 422


def test_backfills_are_listed_newest_first_and_for_their_chain_alone(
    world: World, partner: Api, stranger: Api, task_id: int
) -> None:
    ids = []
    for number in range(1, 4):
        ids.append(made(partner, task_id, may(number, number + 1))["id"])
        partner.publish(partner.claim())
        tick(world)
    page = partner.get(f"/tasks/{task_id}/backfills?limit=2").get_json()
    assert [one["id"] for one in page["results"]] == [ids[2], ids[1]]
    rest = partner.get(page["next"].removeprefix("http://exports.test")).get_json()
    assert ([one["id"] for one in rest["results"]], rest["next"]) == ([ids[0]], None)
    assert stranger.get(f"/tasks/{task_id}/backfills").status_code == 404
    assert stranger.get(f"/backfills/{ids[0]}").status_code == 404
    assert stranger.post(f"/backfills/{ids[0]}/cancel").status_code == 404
    assert stranger.post(f"/tasks/{task_id}/backfill", may(1, 2)).status_code == 404


def test_a_client_that_lost_its_scope_is_backfilled_no_further(world: World, partner: Api, task_id: int) -> None:
    backfill = made(partner, task_id, may(1, 11))
    partner.publish(partner.claim())
    with world.services.database.write() as session:
        session.get_one(models.Client, session.get_one(models.Task, task_id).client_id).scopes = ["tasks:read"]
    tick(world)
    found = partner.get(f"/backfills/{backfill['id']}").get_json()
    assert (found["state"], found["reason"], found["progress"]["cancelled"]) == ("cancelled", "scope_lost", 9)


def test_the_bound_of_a_backfill_is_a_setting() -> None:
    assert Settings.model_validate({}).limits.backfill_occurrences == 10_000
    assert timedelta(minutes=10_000) > timedelta(days=6), "a week of minutes is asked for in two parts"
