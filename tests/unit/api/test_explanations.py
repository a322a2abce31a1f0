"""POST /segments/explain: why a document of the chain is selected or left out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import Api, pointers, segment

CHEAP = {"field_name": "price", "field_type": "number", "operator": "is_less_than", "value": 20}
ELECTRONICS = segment()["rules"][0]


def explained(caller: Api, **body: Any) -> dict[str, Any]:
    answer = caller.post("/segments/explain", body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_document_is_explained_rule_by_rule(partner: Api) -> None:
    told = explained(partner, segment=segment(rules=[ELECTRONICS, CHEAP]), id=3)
    assert told["matches"] is False
    found = told["explanation"]
    assert (found["pointer"], found["matched"], found["why"]) == (
        "", False, "All of its parts are asked for; not so /rules/1.",
    )  # fmt: skip
    assert found["rules"][1] == {
        "pointer": "/rules/1", "field_name": "price", "operator": "is_less_than", "matched": False,
        "values": [40.0], "fitting": [], "count": 1,
        "why": "The rule asks for some value of price that is less than 20; its value 40.0 is not one.",
    }  # fmt: skip
    assert found["rules"][0]["matched"] is True


@pytest.mark.parametrize(("document", "matches"), [(1, True), ("1", True), (2, False), (3, True)])
def test_it_agrees_with_the_preview_however_the_id_is_spelt(partner: Api, document: Any, *, matches: bool) -> None:
    assert explained(partner, segment=segment(), id=document)["matches"] is matches
    shown = partner.post("/segments/preview", {"segment": segment()}).get_json()["sample"]
    assert (int(document) in {one["id"] for one in shown}) is matches


def test_a_saved_segment_is_explained(partner: Api, stranger: Api) -> None:
    saved = partner.post("/segments", {"name": "Electronics", "segment": segment()}).get_json()
    assert explained(partner, segment_id=saved["id"], id=2)["matches"] is False
    answer = stranger.post("/segments/explain", {"segment_id": saved["id"], "id": 4})
    assert pointers(answer) == {"/segment_id": "unknown_segment"}


def test_the_moment_and_the_zone_are_the_bodys(partner: Api) -> None:
    today = {"field_name": "created", "field_type": "date", "operator": "in_current", "time_factor": "day"}
    asked = {"segment": segment(rules=[today]), "id": 1, "timezone": "Europe/Amsterdam"}
    assert explained(partner, **asked, now="2026-05-01T21:59:00Z")["matches"] is True
    assert explained(partner, **asked, now="2026-05-01T22:01:00Z")["matches"] is False


def test_a_group_about_another_index_is_asked_of_the_source(partner: Api) -> None:
    folder = partner.services.settings.files.directory / "users"
    folder.mkdir()
    (folder / "users.jsonl").write_text(
        '{"chain_id": 1764, "id": 3, "email": "a@example.com"}\n{"chain_id": 2001, "id": 1, "email": "b@example.com"}\n'
    )
    rules = [{"field_name": "email", "field_type": "keyword", "operator": "is_set"}]
    linked = segment(rules=[{"join": "all", "index": "users", "link": "id", "rules": rules}])
    told = [explained(partner, segment=linked, id=number) for number in (1, 3)]
    assert [one["matches"] for one in told] == [False, True]
    groups = [one["explanation"]["rules"][0] for one in told]
    assert [(one["index"], one["rules"]) for one in groups] == [("users", [])] * 2
    assert groups[0]["why"] == "No document of users whose id is in id matches the rules of this group."


BAD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"segment": segment()}, {"/id": "missing"}),
    ({"segment": segment(), "id": True}, {"/id": "wrong_type"}),
    ({"segment": segment(), "id": 1.5}, {"/id": "wrong_type"}),
    ({"id": 1}, {"/segment": "missing"}),
    ({"segment": segment(), "segment_id": 1, "id": 1}, {"": "clash"}),
    ({"segment": segment(), "id": "Lamp"}, {"/id": "not_answerable"}),
    ({"segment": segment(), "id": 99}, {"/id": "unknown_document"}),
    ({"segment": segment(), "id": 4}, {"/id": "unknown_document"}),
    ({"segment": segment(), "id": 10**19}, {"/id": "unknown_document"}),
    ({"segment": segment(rules=[{**CHEAP, "field_name": "prise"}]), "id": 1},
     {"/segment/rules/0/field_name": "unknown_field"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BAD)
def test_what_is_wrong_is_named_by_its_own_pointer(
    partner: Api, body: dict[str, Any], expected: dict[str, str]
) -> None:
    assert pointers(partner.post("/segments/explain", body)) == expected


def test_two_documents_of_one_id_are_not_explained(partner: Api) -> None:
    folder = partner.services.settings.files.directory / "products"
    (folder / "more.jsonl").write_text('{"chain_id": 1764, "id": 1, "name": "Lamp again"}\n')
    answer = partner.post("/segments/explain", {"segment": segment(rules=[]), "id": 1})
    assert pointers(answer) == {"/id": "not_unique"}


def test_another_chains_rows_are_not_explained(stranger: Api) -> None:
    assert stranger.post("/segments/explain", {"segment": segment(), "id": 1}).status_code == 403
