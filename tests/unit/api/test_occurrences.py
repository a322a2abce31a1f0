"""One outcome for every occurrence, as a caller sees it: run, or skipped for a reason; in pages, there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from sqlmodel import select

from tasks_service.database.models import Skip, Task
from tasks_service.metrics import OCCURRENCES_NOT_RUN
from tasks_service.occurrence_schemas import SkipReason
from tasks_service.schedule import occurrences
from tests.unit.api.conftest import Api, World
from tests.unit.api.test_backfills import tick

HOURLY = {"cron": "0 * * * *", "misfire": "skip", "overlap": "allow"}
HOUR = timedelta(hours=1)


def seen(partner: Api, task_id: int, query: str = "") -> list[tuple[str, str | None, list[str]]]:
    """Every line of the list, page by page, and back again the same."""
    pages = [partner.get(f"/tasks/{task_id}/occurrences?limit=7{query}").get_json()]
    while pages[-1]["next"] is not None:
        pages.append(partner.get(pages[-1]["next"].removeprefix("http://exports.test")).get_json())
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = partner.get(back["previous"].removeprefix("http://exports.test")).get_json()
        assert back["results"] == page["results"]
    assert all(len(page["results"]) == 7 for page in pages[:-1])
    assert pages[0]["previous"] is None
    return [
        (one["occurrence"], one["reason"], [f"{run['kind']} {run['state']}" for run in one["runs"]])
        for page in pages
        for one in page["results"]
    ]


def at_the_hour(partner: Api, *, after: float = 10) -> datetime:
    """Let time pass until so many seconds after the next hour; return that hour."""
    now = partner.now()
    hour = now.replace(minute=0, second=0, microsecond=0) + HOUR
    partner.services.database.clock_offset += hour + timedelta(seconds=after) - now
    return hour


def text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_every_occurrence_has_one_line_whatever_became_of_it(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    tick(world)
    partner.publish(partner.claim())
    partner.forward(hours=30)
    tick(world)  # 29 were missed, the newest is on time
    partner.post(f"/tasks/{task_id}/pause")
    partner.forward(hours=3)
    partner.post(f"/tasks/{task_id}/resume")
    expected = [(first, None, ["schedule done"])]
    expected += [(first + HOUR * number, "misfire", []) for number in range(1, 30)]
    expected += [(first + HOUR * 30, None, ["schedule queued"])]
    expected += [(first + HOUR * number, "paused", []) for number in range(31, 34)]
    assert seen(partner, task_id) == [(text(one), *rest) for one, *rest in reversed(expected)]
    assert len(seen(partner, task_id, "&outcome=skipped")) == 32
    assert len(seen(partner, task_id, "&outcome=run")) == 2
    assert seen(partner, task_id, "&reason=paused") == [
        (text(first + HOUR * number), "paused", []) for number in (33, 32, 31)
    ]


def test_a_span_of_them_is_inclusive_at_its_start_and_exclusive_at_its_end(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    tick(world)
    partner.forward(hours=40)
    tick(world)
    span = f"&occurrence_after={text(first + HOUR * 5)}&occurrence_before={text(first + HOUR * 25)}"
    assert [one for one, *_ in seen(partner, task_id, span)] == [text(first + HOUR * n) for n in range(24, 4, -1)]
    one = f"&occurrence_after={text(first + HOUR * 40)}"
    assert seen(partner, task_id, one) == [(text(first + HOUR * 40), None, ["schedule queued"])]


def test_a_skipped_one_that_was_backfilled_and_retried_shows_it_all_on_one_line(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    tick(world)
    partner.publish(partner.claim())
    partner.forward(hours=4)
    tick(world)
    partner.publish(partner.claim())
    span = {"start": text(first - HOUR), "end": text(first + HOUR * 2)}
    assert partner.post(f"/tasks/{task_id}/backfill", span).status_code == 201
    claim = partner.claim()
    assert claim.occurrence == first - HOUR
    partner.publish(claim)
    tick(world)
    claim = partner.claim()
    assert claim.occurrence == first + HOUR
    partner.fail(claim)
    assert partner.post(f"/runs/{claim.run_id}/retry").status_code == 202
    assert seen(partner, task_id)[-3:] == [
        (text(first + HOUR), "misfire", ["backfill failed", "retry queued"]),
        (text(first), None, ["schedule done"]),
        (text(first - HOUR), None, ["backfill done"]),
    ]
    lines = partner.get(f"/tasks/{task_id}/occurrences?outcome=run").get_json()["results"]
    assert text(first + HOUR) not in [one["occurrence"] for one in lines]


def test_a_run_now_is_no_occurrence(partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    assert seen(partner, task_id) == []
    once = partner.create(trigger={"once": "2020-01-01T00:00:00Z"})["id"]
    assert [rest for _, *rest in seen(partner, once)] == [[None, ["schedule queued"]]]


def test_a_range_of_which_no_more_is_known_is_one_line(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    tick(world)
    partner.forward(hours=20)
    tick(world)
    with world.services.database.write() as session:
        [skip] = session.exec(select(Skip)).all()
        skip.cron = skip.timezone = None
    lines = partner.get(f"/tasks/{task_id}/occurrences?limit=1").get_json()
    page = partner.get(lines["next"].removeprefix("http://exports.test")).get_json()
    [line] = page["results"]
    assert (line["occurrence"], line["until"], line["count"]) == (text(first + HOUR), text(first + HOUR * 19), 19)
    page = partner.get(page["next"].removeprefix("http://exports.test")).get_json()
    assert [one["occurrence"] for one in page["results"]] == [text(first)]
    for expected in ([text(first + HOUR)], [text(first + HOUR * 20)]):
        page = partner.get(page["previous"].removeprefix("http://exports.test")).get_json()
        assert [one["occurrence"] for one in page["results"]] == expected


def test_what_a_pause_let_pass_is_told_though_the_trigger_was_changed_meanwhile(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    tick(world)
    partner.post(f"/tasks/{task_id}/pause")
    partner.forward(hours=3)
    body = {"trigger": {"cron": "30 * * * *"}}
    assert partner.request("PATCH", f"/tasks/{task_id}", body).status_code == 200
    partner.forward(hours=1)
    assert partner.post(f"/tasks/{task_id}/resume").status_code == 200
    half = first + timedelta(hours=3, minutes=30)
    expected = [(half, "paused", [])]
    expected += [(first + HOUR * number, "paused", []) for number in (3, 2, 1)]
    expected += [(first, None, ["schedule queued"])]
    assert seen(partner, task_id) == [(text(one), *rest) for one, *rest in expected]


def test_a_zone_that_was_removed_can_be_replaced_and_what_was_due_is_told(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    with world.services.database.write() as session:
        task = session.get_one(Task, task_id)
        task.trigger = task.trigger | {"timezone": "Gone/Zone"}
    first = at_the_hour(partner)
    tick(world)
    assert partner.task(task_id)["paused"]["reason"] == "invalid_trigger"
    assert partner.request("PATCH", f"/tasks/{task_id}", {"trigger": HOURLY}).status_code == 200
    assert seen(partner, task_id) == [(text(first), "paused", [])]
    resumed = partner.post(f"/tasks/{task_id}/resume").get_json()
    assert (resumed["paused"], len(resumed["next_run_dates"])) == (None, 5)


@pytest.mark.parametrize("change", [{"timezone": "Gone/Zone"}, {"cron": "0 0 31 2 *"}], ids=["zone", "line"])
@pytest.mark.parametrize("due", [True, False])
def test_a_trigger_that_is_understood_no_more_is_a_conflict_and_not_an_error(
    world: World,
    partner: Api,
    change: dict[str, str],
    due: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    """Whatever is asked of its task, before it is due as well as after the scheduler has paused it for that."""
    task_id = partner.create(trigger=HOURLY)["id"]
    with world.services.database.write() as session:
        task = session.get_one(Task, task_id)
        task.trigger = task.trigger | change
    first = at_the_hour(partner)
    if due:
        tick(world)
    else:
        partner.forward(hours=-1)
        edited = partner.request("PATCH", f"/tasks/{task_id}", {"desc": "x"})
        assert (edited.status_code, edited.get_json()["next_run_dates"]) == (200, [])
        assert partner.post(f"/tasks/{task_id}/pause", {"note": "Mine."}).status_code == 200
    target = {"target": {"action": "export", "export_index": "products", "export_format": "json"}}
    span = {"start": text(first - HOUR * 3), "end": text(first - HOUR)}
    for answer in (
        partner.post(f"/tasks/{task_id}/resume"),
        partner.request("PATCH", f"/tasks/{task_id}", target),
        partner.post(f"/tasks/{task_id}/backfill", span),
        partner.post(f"/tasks/{task_id}/backfill", span | {"dry_run": True}),
    ):
        problem = answer.get_json()
        assert (answer.status_code, problem["code"]) == (409, "invalid_trigger"), problem
        assert "send" in problem["detail"]
    paused = partner.task(task_id)["paused"]
    assert paused["reason"] == ("invalid_trigger" if due else None)
    assert partner.get(f"/tasks/{task_id}/occurrences").status_code == 200
    assert partner.request("PATCH", f"/tasks/{task_id}", target | {"trigger": HOURLY}).status_code == 200
    assert partner.post(f"/tasks/{task_id}/resume").get_json()["paused"] is None
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204


def test_a_pause_does_not_hide_why_the_service_paused_a_task_itself(world: World, partner: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    with world.services.database.write() as session:
        task = session.get_one(Task, task_id)
        task.trigger = task.trigger | {"timezone": "Gone/Zone"}
    at_the_hour(partner)
    paused = partner.post(f"/tasks/{task_id}/pause", {"note": "Mine."}).get_json()["paused"]
    assert paused["reason"] == "invalid_trigger"


def outcomes(partner: Api, task_id: int, query: str = "") -> list[tuple[str, str, str | None]]:
    answer = partner.get(f"/tasks/{task_id}/occurrences?limit=100{query}")
    return [(one["occurrence"], one["outcome"], one["reason"]) for one in answer.get_json()["results"]]


def test_what_is_not_decided_yet_is_pending_and_what_is_to_come_where_it_is_asked_for(
    world: World, partner: Api
) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    assert outcomes(partner, task_id) == [(text(first), "pending", None)]
    tick(world)
    assert outcomes(partner, task_id) == [(text(first), "run", None)]
    ahead = f"&occurrence_before={text(first + HOUR * 3)}"
    expected = [(text(first + HOUR * number), "pending", None) for number in (2, 1)]
    assert outcomes(partner, task_id, ahead) == [*expected, (text(first), "run", None)]
    assert outcomes(partner, task_id, f"&outcome=pending{ahead}") == expected
    assert [one for one, *_ in seen(partner, task_id, f"&outcome=pending&occurrence_before={text(first + HOUR * 30)}")]
    partner.post(f"/tasks/{task_id}/pause")
    partner.forward(hours=2)
    assert [rest for _, *rest in outcomes(partner, task_id)] == [["pending", None], ["pending", None], ["run", None]]
    partner.post(f"/tasks/{task_id}/resume")
    assert [rest for _, *rest in outcomes(partner, task_id)] == [["skipped", "paused"]] * 2 + [["run", None]]


def test_nothing_is_pending_behind_the_end_of_a_schedule(partner: Api) -> None:
    first = at_the_hour(partner) + HOUR
    task_id = partner.create(trigger=HOURLY | {"end_at": text(first + HOUR)})["id"]
    ahead = f"&occurrence_before={text(first + HOUR * 50)}"
    assert [one for one, *_ in outcomes(partner, task_id, ahead)] == [text(first + HOUR), text(first)]
    once = partner.create(trigger={"once": text(first)})["id"]
    assert outcomes(partner, once) == []
    assert outcomes(partner, once, ahead) == [(text(first), "pending", None)]


def test_a_once_that_is_executed_before_its_time_has_that_for_an_outcome(partner: Api) -> None:
    first = at_the_hour(partner) + HOUR
    task_id = partner.create(trigger={"once": text(first)})["id"]
    partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
    assert outcomes(partner, task_id) == [(text(first), "skipped", "executed")]


@pytest.mark.parametrize(("paused", "reason"), [(False, "deleted"), (True, "paused")])
def test_what_was_not_decided_when_its_task_was_deleted_says_so(
    partner: Api,
    operator: Api,
    paused: bool,  # noqa: FBT001 -- a parameter of the test
    reason: str,
) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    if paused:
        with partner.services.database.write() as session:
            session.get_one(Task, task_id).paused_at = partner.now()
    partner.forward(hours=1)
    partner.request("DELETE", f"/tasks/{task_id}")
    assert outcomes(operator, task_id) == [(text(first + HOUR), "skipped", reason), (text(first), "skipped", reason)]


def test_a_backfill_between_skipped_occurrences_of_another_line_is_a_run(world: World, partner: Api) -> None:
    """The line is of every hour while the service is away, and of every half hour when somebody goes back."""
    task_id = partner.create(trigger=HOURLY)["id"]
    first = at_the_hour(partner)
    partner.forward(hours=4)
    tick(world)
    partner.publish(partner.claim())
    assert partner.request("PATCH", f"/tasks/{task_id}", {"trigger": {"cron": "30 * * * *"}}).status_code == 200
    half = first + timedelta(minutes=30)
    assert (
        partner.post(f"/tasks/{task_id}/backfill", {"start": text(first), "end": text(first + HOUR)}).status_code == 201
    )
    partner.publish(partner.claim())
    expected = [(text(first + HOUR * 4), "run", None), (text(half), "run", None)]
    assert outcomes(partner, task_id, "&outcome=run") == expected
    assert outcomes(partner, task_id)[-2:] == [(text(half), "run", None), (text(first), "skipped", "misfire")]


def test_every_reason_that_is_counted_is_one_of_the_contract() -> None:
    assert set(get_args(SkipReason)) == set(OCCURRENCES_NOT_RUN.starts)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("outcome=ran", {"outcome"}),
        ("reason=forgotten", {"reason"}),
        ("occurrence_after=today&occurrence_before=2026-05-26T12:00:00", {"occurrence_after", "occurrence_before"}),
        ("outcome=run&reason=paused", {"reason"}),
        ("outcome=pending&reason=paused", {"reason"}),
        ("cursor=abc", {"cursor"}),
    ],
)
def test_a_filter_that_cannot_be_is_refused(partner: Api, query: str, parameters: set[str]) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    answer = partner.get(f"/tasks/{task_id}/occurrences?{query}")
    assert answer.status_code == 422
    assert {fault["parameter"] for fault in answer.get_json()["errors"]} == parameters


def test_they_are_their_chains_alone(partner: Api, stranger: Api, operator: Api) -> None:
    task_id = partner.create(trigger=HOURLY)["id"]
    assert stranger.get(f"/tasks/{task_id}/occurrences").status_code == 404
    partner.request("DELETE", f"/tasks/{task_id}")
    assert partner.get(f"/tasks/{task_id}/occurrences").status_code == 404
    assert operator.get(f"/tasks/{task_id}/occurrences").status_code == 200


def test_a_month_of_minutes_is_paged_without_being_written_out(world: World, partner: Api) -> None:
    task_id = partner.create(trigger={"cron": "* * * * *", "misfire": "skip", "timezone": "Europe/Amsterdam"})["id"]
    partner.forward(days=31)
    tick(world)
    with world.services.database.read() as session:
        ranges = session.exec(select(Skip)).all()
    page: dict[str, Any] = partner.get(f"/tasks/{task_id}/occurrences?limit=100&outcome=skipped").get_json()
    newest = max(one.last_occurrence for one in ranges)
    expected = list(occurrences("* * * * *", "UTC", after=newest - timedelta(minutes=100), end_at=newest))
    assert [one["occurrence"] for one in page["results"]] == [text(one) for one in reversed(expected)]
