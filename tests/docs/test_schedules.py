"""Every example of docs/schedules.md happens as the page says: the page is read, and the service put through it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from tasks_service import schedule
from tasks_service.backfill_schemas import BackfillCreate
from tasks_service.database.claims import Claim
from tasks_service.occurrence_schemas import Occurrence, Outcome, SkipReason
from tasks_service.schemas import Note
from tasks_service.trigger import MISFIRE, OVERLAP
from tests.databases import StoppedClock
from tests.unit.api.conftest import Api, World, contract, migrated, operator, partner, world
from tests.unit.api.test_backfills import tick

__all__ = ["contract", "migrated", "operator", "partner", "world"]

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Table = list[dict[str, str]]


@dataclass
class Example:
    """A document of the page and the tables below it."""

    heading: str
    document: dict[str, Any]
    tables: list[Table] = field(default_factory=list[Table])

    def table(self, column: str) -> Table:
        return next((table for table in self.tables if column in table[0]), [])


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def tables_of(lines: list[str]) -> Iterator[Table]:
    for is_table, block in groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            header, _, *rows = block
            yield [dict(zip(cells(header), cells(row), strict=True)) for row in rows]


def examples() -> Iterator[Example]:
    """The page's documents, each with what stands between it and the next document or heading."""
    heading = ""
    for part in re.split(r"^(?=    \{|#)", PAGE, flags=re.MULTILINE):
        first, *rest = part.splitlines() or [""]
        if first.startswith("    {"):
            yield Example(heading, json.loads(first), list(tables_of(rest)))
        else:
            heading = first.strip("# ")


EXAMPLES = list(examples())
LINES = [one for one in EXAMPLES if one.table("fires at")]
STORIES = [one for one in EXAMPLES if one.table("what happens")]


def rows_under(column: str) -> Table:
    """The one table of the page whose first column has this name."""
    [found] = [table for table in tables_of(PAGE.splitlines()) if next(iter(table[0])) == column]
    return found


def moment(text: str) -> datetime:
    return datetime.strptime(f"2026 {text} +0000", "%Y %d %B %H:%M %z")


def stored(trigger: Mapping[str, Any]) -> dict[str, Any]:
    found, faults = schedule.check_trigger(trigger, now=NOW)
    assert faults == []
    return found


@pytest.mark.parametrize("row", rows_under("once"), ids=lambda row: row["once"])
def test_a_moment_is_the_instant_the_page_says(row: dict[str, str]) -> None:
    assert stored({"once": row["once"], "timezone": row["timezone"]})["once"] == row["is"]


@pytest.mark.parametrize("row", rows_under("line"), ids=lambda row: row["line"])
def test_a_line_of_the_page_is_one(row: dict[str, str]) -> None:
    stored({"cron": row["line"]})


@pytest.mark.parametrize("example", LINES, ids=lambda one: one.document["cron"])
def test_a_line_fires_when_the_page_says_and_at_no_other_moment_in_between(example: Example) -> None:
    rows = example.table("fires at")
    expected = [datetime.fromisoformat(row["fires at"]) for row in rows]
    trigger = stored(example.document)
    # With an end of its own there is nothing behind the last one either.
    end = datetime(2027, 1, 1, tzinfo=UTC) if trigger["end_at"] else expected[-1].replace(second=1)
    start = NOW if trigger["start_at"] else expected[0]
    found, _ = schedule.occurrences_between(trigger, start=start, end=end, most=100)
    assert found == expected
    zone = ZoneInfo(trigger["timezone"])
    assert [f"{one.astimezone(zone):%H:%M}" for one in found] == [row["the clock there"] for row in rows]


def stories() -> Iterator[Any]:
    """Each story with each policy that its last table tells of."""
    for story in STORIES:
        for column in list(story.table("occurrence")[0])[1:]:
            policy = dict([column.split(": ")]) if ": " in column else {}
            yield pytest.param(story, column, policy, id=f"{story.heading}, {column}")


@pytest.mark.parametrize(("story", "column", "policy"), list(stories()))
def test_a_story_ends_as_the_page_says(
    world: World, partner: Api, operator: Api, story: Example, column: str, policy: dict[str, str]
) -> None:
    clock = StoppedClock(world.services.database, NOW)
    task_id, claims = 0, list[Claim]()
    for row in story.table("what happens"):
        clock.at = moment(row["at"])
        for step in re.findall(r"[a-z]+", row["what happens"]):
            if step == "create":
                task_id = partner.create(trigger=story.document | policy)["id"]
            elif step == "look":
                tick(world)
            elif step == "start":
                claims.append(partner.claim())
            elif step == "done":
                partner.publish(claims.pop())
            elif step == "fail":
                partner.fail(claims.pop())
            elif step == "delete":
                assert partner.request("DELETE", f"/tasks/{task_id}").status_code == 204
            else:
                [body] = [one.document for one in EXAMPLES if "dry_run" in one.document]
                sent = {"body": body} if step == "backfill" else {}
                answer = partner.post(f"/tasks/{task_id}/{step}", sent.get("body"), Prefer="wait=0")
                assert answer.status_code in {200, 201, 202}, answer.text
    lines = operator.get(f"/tasks/{task_id}/occurrences?limit=100").get_json()["results"]
    found = [
        (datetime.fromisoformat(line["occurrence"]), line["reason"] or line["outcome"]) for line in reversed(lines)
    ]
    assert found == [(moment(row["occurrence"]), row[column]) for row in story.table("occurrence")]


def test_the_page_has_every_policy_outcome_and_reason() -> None:
    assert [row["misfire"] for row in rows_under("misfire")] == list(MISFIRE)
    assert [row["overlap"] for row in rows_under("overlap")] == list(OVERLAP)
    assert [row["outcome"] for row in rows_under("outcome")] == list(get_args(Outcome))
    assert [row["reason"] for row in rows_under("reason")] == list(get_args(SkipReason))
    columns = {column for story in STORIES for column in story.table("occurrence")[0]}
    assert columns >= {f"misfire: {one}" for one in MISFIRE} | {f"overlap: {one}" for one in OVERLAP}


def test_the_pages_other_documents_are_of_the_contract() -> None:
    documents = {frozenset(one.document): one.document for one in EXAMPLES if not {"once", "cron"} & set(one.document)}
    note, backfill, line = documents.values()
    Note.model_validate(note)
    assert set(BackfillCreate.model_validate(backfill).model_dump()) == set(backfill)
    assert set(Occurrence.model_validate(line).model_dump()) == set(line)


def test_the_tables_of_members_name_every_member() -> None:
    tables = [table for table in tables_of(PAGE.splitlines()) if "member" in table[0]]
    of_cron, of_backfill = ({name for row in table for name in re.findall(r"\w+", row["member"])} for table in tables)
    assert of_cron == {"timezone", *stored({"cron": "0 0 * * *"})} - {"cron"} | {
        "misfire", "overlap", "pause_after_failures"
    }  # fmt: skip
    assert of_backfill == set(BackfillCreate.model_fields)
