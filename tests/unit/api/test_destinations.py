"""`target.destination`: whose it may be, how it is stored, and what is said of one that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.conftest import CHAIN, OTHER_CHAIN, Api, Contract, World, pointers, standing, task_body

DESTINATIONS = {
    "acme": {"kind": "gcs", "bucket": "acme-exports", "chains": [CHAIN]},
    "lake": {"kind": "gcs", "bucket": "lake", "chains": [CHAIN, OTHER_CHAIN], "prefix": "of/{chain}"},
    "globex": {"kind": "gcs", "bucket": "globex-exports", "chains": [OTHER_CHAIN]},
}
TARGET = {"action": "export", "export_index": "products", "export_format": "csv"}


@pytest.fixture
def world(tmp_path: Path, migrated: Path, contract: Contract) -> Iterator[World]:
    with standing(tmp_path, migrated, contract, destinations=DESTINATIONS) as found:
        yield found


def with_destination(destination: Any) -> dict[str, Any]:
    return task_body(target=TARGET | {"destination": destination})


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("acme", {"name": "acme", "path": "{task}/{run}", "overwrite": False}),
        ({"name": "lake"}, {"name": "lake", "path": "{task}/{run}", "overwrite": False}),
        (
            {"name": "acme", "path": "{index}/dt={year}-{month}-{day}", "overwrite": True},
            {"name": "acme", "path": "{index}/dt={year}-{month}-{day}", "overwrite": True},
        ),
        (
            {"name": "acme", "path": None, "overwrite": None},
            {"name": "acme", "path": "{task}/{run}", "overwrite": False},
        ),
    ],
)
def test_a_destination_is_stored_whole(partner: Api, given: Any, stored: dict[str, Any]) -> None:
    task = partner.create(target=TARGET | {"destination": given})
    assert task["target"]["destination"] == stored
    again = partner.request("PATCH", f"/tasks/{task['id']}", {"target": task["target"]})
    assert again.status_code == 200, again.text
    assert again.get_json()["target"] == task["target"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nobody", {"/target/destination": "unknown_destination"}),
        ({"name": "nobody"}, {"/target/destination/name": "unknown_destination"}),
        (7, {"/target/destination": "wrong_type"}),
        (["acme"], {"/target/destination": "wrong_type"}),
        ({}, {"/target/destination/name": "missing"}),
        ({"name": 7}, {"/target/destination/name": "wrong_type"}),
        ({"name": "acme", "bucket": "x"}, {"/target/destination/bucket": "unknown_member"}),
        ({"name": "acme", "path": 7}, {"/target/destination/path": "wrong_type"}),
        ({"name": "acme", "path": "../up"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "/a"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": ""}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "a//b"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "a b"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "{secret}"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "{task.__class__}"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "{"}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "path": "x" * 401}, {"/target/destination/path": "not_allowed"}),
        ({"name": "acme", "overwrite": "yes"}, {"/target/destination/overwrite": "wrong_type"}),
        (
            {"name": "no", "path": "?", "overwrite": 1, "and": 0},
            {
                "/target/destination/and": "unknown_member",
                "/target/destination/name": "unknown_destination",
                "/target/destination/path": "not_allowed",
                "/target/destination/overwrite": "wrong_type",
            },
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_own_pointer(partner: Api, given: Any, expected: dict[str, str]) -> None:
    assert pointers(partner.post("/tasks", with_destination(given))) == expected


def test_the_destinations_of_other_chains_are_as_unknown_as_those_that_are_not_there(world: World) -> None:
    partner = world.caller()
    foreign, absent = (partner.post("/tasks", with_destination(name)) for name in ("globex", "globax"))
    said = [answer.get_json()["errors"][0]["detail"] for answer in (foreign, absent)]
    assert said[0].replace("globex", "_") == said[1].replace("globax", "_")
    assert said[0] == "The chain has no destination `globex`. Known: acme, lake."
    assert (
        world.caller(OTHER_CHAIN).post("/tasks", with_destination("globex") | {"chain": OTHER_CHAIN}).status_code == 201
    )


def test_a_typo_is_told_the_right_word(partner: Api) -> None:
    answer = partner.post("/tasks", with_destination("acne"))
    assert answer.get_json()["errors"][0]["detail"] == (
        "The chain has no destination `acne`. Did you mean `acme`? Known: acme, lake."
    )


def test_without_any_it_is_said_who_configures_them(tmp_path: Path, migrated: Path, contract: Contract) -> None:
    with standing(tmp_path, migrated, contract) as bare:
        answer = bare.caller().post("/tasks", with_destination("acme"))
    assert "It has none; the service's operator configures them." in answer.text


def test_an_edit_is_judged_by_the_tasks_own_chain(world: World) -> None:
    partner = world.caller()
    task = partner.create()
    answer = partner.request("PATCH", f"/tasks/{task['id']}", {"target": TARGET | {"destination": "globex"}})
    assert pointers(answer) == {"/target/destination": "unknown_destination"}


def test_an_operator_is_told_by_the_tasks_chain_too(world: World) -> None:
    operator = world.caller(None)
    body = with_destination("globex") | {"chain": OTHER_CHAIN}
    assert operator.post("/tasks", body).status_code == 201
    assert pointers(operator.post("/tasks", with_destination("globex"))) == {
        "/target/destination": "unknown_destination"
    }


def test_a_result_says_where_it_was_pushed(partner: Api) -> None:
    task = partner.create(target=TARGET | {"destination": "acme"}, trigger={"once": "2020-01-01T00:00:00Z"})
    claim = partner.claim()
    file = partner.store(claim, "a.csv", "text/csv", b"id\r\n1\r\n")
    there = {"file_name": "a.csv", "uri": "gs://acme-exports/1/2/a.csv", "bytes": 7, "crc32c": "AAAAAA=="}
    pushed = {
        "name": "acme",
        "uri": "gs://acme-exports/1/2/",
        "pushed_at": "2026-05-26T12:00:00.5+00:00",
        "files": [there],
        "manifest": there | {"file_name": "a.csv.manifest.json"},
    }
    partner.publish_pushed(claim, file, pushed)
    shown = partner.task(task["id"])["result"]["destination"]
    assert shown == pushed | {"pushed_at": "2026-05-26T12:00:00Z"}
    run = partner.get(f"/runs/{claim.run_id}").get_json()
    assert run["artifact"]["destination"] == shown
    assert [one["event"] for one in run["events"]][-2:] == ["run.pushed", "run.published"]
