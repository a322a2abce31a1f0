"""The list of a task's occurrences is the same on SQLite and on PostgreSQL: one outcome each, in pages, filtered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks_service.api.creation import settle
from tasks_service.database.engine import Database
from tasks_service.database.models import Task
from tasks_service.schedule import Limits, Planner
from tasks_service.zone_changes import follow_zones
from tests.databases import StoppedClock, url_of
from tests.unit.api.conftest import Api, Contract, World, standing
from tests.unit.api.test_backfills import tick
from tests.zone_files import compiled, host, write

# Twenty to the hour; the task under test is of every full hour.
START = datetime(2026, 3, 28, 20, 40, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURLY = {"cron": "0 * * * *", "timezone": "Europe/Amsterdam", "misfire": "skip", "overlap": "skip"}
BASE = "http://exports.test"


@pytest.fixture
def world(database: Database, tmp_path: Path, migrated: Path, contract: Contract) -> Iterator[World]:
    """An installation on either database."""
    with standing(tmp_path / "installation", migrated, contract, database={"url": url_of(database)}) as found:
        yield found


@pytest.fixture
def clock(world: World) -> StoppedClock:
    return StoppedClock(world.services.database, START)


def at(hours: float) -> datetime:
    """The full hour so many hours after the first one."""
    return START.replace(minute=0) + HOUR * (1 + hours)


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def pages(caller: Api, task_id: int, query: str = "", *, limit: int = 100) -> list[list[dict[str, Any]]]:
    """Every page of the list, there, and back again the same."""
    found = [caller.get(f"/tasks/{task_id}/occurrences?limit={limit}{query}").get_json()]
    while found[-1]["next"] is not None:
        found.append(caller.get(found[-1]["next"].removeprefix(BASE)).get_json())
    back = found[-1]
    for page in reversed(found[:-1]):
        back = caller.get(back["previous"].removeprefix(BASE)).get_json()
        assert back["results"] == page["results"]
    assert back["previous"] is None
    return [page["results"] for page in found]


def outcomes(caller: Api, task_id: int, query: str = "", *, limit: int = 100) -> list[tuple[str, str, str | None]]:
    """Occurrence, outcome and reason of every line."""
    lines = [line for page in pages(caller, task_id, query, limit=limit) for line in page]
    return [(line["occurrence"], line["outcome"], line["reason"]) for line in lines]


def eventful(world: World, partner: Api, clock: StoppedClock) -> tuple[int, dict[datetime, tuple[str, str | None]]]:
    """A task to which everything has happened by now, and what became of each of its occurrences."""
    task_id = partner.create(trigger=HOURLY)["id"]
    expected: dict[datetime, tuple[str, str | None]] = {}
    clock.at = at(0)
    tick(world)  # runs; it goes while the next comes
    expected[at(0)] = ("run", None)
    going = partner.claim()
    clock.at = at(1)
    tick(world)
    expected[at(1)] = ("skipped", "overlap")
    partner.publish(going)
    clock.at = at(5) + timedelta(minutes=2)  # the service was away, over the change of the clock
    tick(world)
    expected |= {at(hour): ("skipped", "misfire") for hour in range(2, 6)}
    partner.post(f"/tasks/{task_id}/pause")
    clock.at = at(8)
    partner.post(f"/tasks/{task_id}/resume")
    expected |= {at(hour): ("skipped", "paused") for hour in range(6, 9)}
    clock.at = at(8.25)
    assert partner.post(f"/tasks/{task_id}/backfill", {"start": text(at(-2)), "end": text(at(3))}).status_code == 201
    for hour in (-2, -1, 1, 2):  # the first two are from before the task was made
        claim = partner.claim()
        assert (claim.kind, claim.occurrence) == ("backfill", at(hour))
        partner.fail(claim)
        tick(world)
    expected |= {at(hour): ("run", None) for hour in (-2, -1)}
    clock.at = at(9.25)
    expected[at(9)] = ("pending", None)
    return task_id, expected


def test_every_occurrence_has_one_line_in_pages_of_any_size(world: World, partner: Api, clock: StoppedClock) -> None:
    task_id, expected = eventful(world, partner, clock)
    lines = [(text(one), *expected[one]) for one in sorted(expected, reverse=True)]
    for limit in (1, 4, 100):
        assert outcomes(partner, task_id, limit=limit) == lines
    runs = {line["occurrence"]: [run["kind"] for run in line["runs"]] for line in pages(partner, task_id)[0]}
    assert {one for one, kinds in runs.items() if kinds == ["schedule"]} == {text(at(0))}
    assert {one for one, kinds in runs.items() if kinds == ["backfill"]} == {text(at(n)) for n in (-2, -1, 1, 2)}


def test_a_filter_leaves_out_the_others_and_nothing_else(world: World, partner: Api, clock: StoppedClock) -> None:
    task_id, expected = eventful(world, partner, clock)

    def those(outcome: str, reason: str | None = None) -> list[tuple[str, str, str | None]]:
        found = [one for one in sorted(expected, reverse=True) if expected[one][0] == outcome]
        return [(text(one), *expected[one]) for one in found if reason is None or expected[one][1] == reason]

    for outcome in ("run", "skipped", "pending"):
        assert outcomes(partner, task_id, f"&outcome={outcome}", limit=2) == those(outcome)
    for reason in ("overlap", "misfire", "paused"):
        assert outcomes(partner, task_id, f"&reason={reason}", limit=2) == those("skipped", reason)
    assert outcomes(partner, task_id, "&reason=queue_full") == []
    span = f"&occurrence_after={text(at(1))}&occurrence_before={text(at(7))}"
    within = [(text(at(hour)), *expected[at(hour)]) for hour in range(6, 0, -1)]
    for limit in (1, 4, 100):
        assert outcomes(partner, task_id, span, limit=limit) == within
    assert [line[0] for line in outcomes(partner, task_id, f"{span}&reason=misfire")] == [
        text(at(hour)) for hour in (5, 4, 3, 2)
    ]
    ahead = outcomes(partner, task_id, f"&outcome=pending&occurrence_before={text(at(12))}", limit=2)
    assert ahead == [(text(at(hour)), "pending", None) for hour in (11, 10, 9)]


def test_a_moment_of_its_own_and_a_deleted_tasks_history(
    partner: Api, operator: Api, world: World, clock: StoppedClock
) -> None:
    task_id, expected = eventful(world, partner, clock)
    once = partner.create(trigger={"once": text(at(20))})["id"]
    partner.post(f"/tasks/{once}/execute", Prefer="wait=0")
    assert outcomes(partner, once) == [(text(at(20)), "skipped", "executed")]
    clock.at = at(20)
    assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204
    deleted = [(text(at(hour)), "skipped", "deleted") for hour in range(20, 8, -1)]
    assert outcomes(operator, task_id, limit=5)[:12] == deleted
    assert len(outcomes(operator, task_id)) == 12 + len(expected) - 1
    assert partner.get(f"/tasks/{task_id}/occurrences").status_code == 404


def test_a_month_of_minutes_is_read_from_its_end(world: World, partner: Api, clock: StoppedClock) -> None:
    task_id = partner.create(trigger=HOURLY | {"cron": "* * * * *", "overlap": "allow"})["id"]
    clock.at = START + timedelta(days=31)
    with world.services.database.write() as session:
        settle(world.services, session, session.get_one(Task, task_id), now=clock.at)
    first, second = (
        partner.get(f"/tasks/{task_id}/occurrences?limit=100&outcome=skipped{more}").get_json()["results"]
        for more in ("", f"&occurrence_before={text(START + timedelta(days=15))}")
    )
    newest = clock.at - timedelta(minutes=2)  # what is a minute old is not late yet
    assert [one["occurrence"] for one in first] == [text(newest - timedelta(minutes=n)) for n in range(100)]
    older = START + timedelta(days=15) - timedelta(minutes=1)
    assert [one["occurrence"] for one in second] == [text(older - timedelta(minutes=n)) for n in range(100)]


def test_what_was_skipped_stays_what_it_was_when_the_zone_changes_afterwards(
    world: World, partner: Api, clock: StoppedClock, tmp_path: Path
) -> None:
    """Data that comes late: the clock had been moved already while the service was away, and nobody knew."""
    zone = "Europe/Amsterdam"
    old = write(tmp_path / "old", "2031a", {zone: compiled(1)})
    new = write(tmp_path / "new", "2031b", {zone: compiled(1, (START, 2))})
    with host(old):
        task_id = partner.create(trigger=HOURLY | {"cron": "0 2 * * *", "timezone": zone})["id"]
        clock.at = START + timedelta(days=4)
        tick(world)
        nights = [(text(at(4 + 24 * night)), "skipped", "misfire") for night in (3, 2, 1, 0)]
        assert outcomes(partner, task_id) == nights
    with host(new):
        follow_zones(world.services.database, Planner(Limits()))
        assert outcomes(partner, task_id, limit=3) == nights
        clock.at += timedelta(hours=4)
        assert outcomes(partner, task_id) == [(text(at(4 + 24 * 4 - 1)), "pending", None), *nights]
    with host(old):  # goes by the newer data, which it knows from the database
        assert outcomes(partner, task_id)[0] == (text(at(4 + 24 * 4 - 1)), "pending", None)
