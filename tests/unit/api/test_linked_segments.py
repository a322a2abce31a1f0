"""Segments with groups about another index, over HTTP: previewed, stored, refused with pointers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.conftest import (
    CHAIN,
    OTHER_CHAIN,
    Api,
    Contract,
    World,
    check_problem,
    pointers,
    segment,
    standing,
    task_body,
)

BRANDS = [
    {"chain_id": CHAIN, "id": 1, "product_id": 3, "colour": "red"},
    {"chain_id": CHAIN, "id": 2, "product_id": 1, "colour": "blue"},
    {"chain_id": OTHER_CHAIN, "id": 3, "product_id": 2, "colour": "red"},
    {"chain_id": OTHER_CHAIN, "id": 4, "product_id": 4, "colour": "red"},
]


@pytest.fixture
def variants(world: World) -> None:
    write(world.services.settings.files.directory)


def write(directory: Path) -> None:
    (directory / "product-variants").mkdir()
    lines = "".join(json.dumps(one) + "\n" for one in BRANDS)
    (directory / "product-variants" / "variants.jsonl").write_text(lines)


def linked(**changes: Any) -> dict[str, Any]:
    """Products of which there is a red variant."""
    red = {"field_name": "colour", "field_type": "keyword", "operator": "is", "value": "red"}
    group = {"index": "product-variants", "link": "id", "key": "product_id", "join": "all", "rules": [red]}
    return segment(rules=[group | changes])


@pytest.mark.usefixtures("variants")
def test_a_preview_follows_links_within_the_chain(partner: Api) -> None:
    answer = partner.post("/segments/preview", linked()).get_json()
    assert (answer["count"], [one["id"] for one in answer["sample"]]) == (1, [3])
    others = partner.post("/segments/preview", linked(negate=True)).get_json()
    assert [one["id"] for one in others["sample"]] == [1, 2]


@pytest.mark.usefixtures("variants")
def test_a_task_keeps_a_linked_segment(partner: Api) -> None:
    body = task_body(trigger={"once": "2999-05-26T12:00:00Z", "segment": linked()})
    answer = partner.post("/tasks", body)
    assert answer.status_code == 201
    assert answer.get_json()["trigger"]["segment"] == linked()


@pytest.mark.usefixtures("variants")
@pytest.mark.parametrize(
    ("changes", "member", "words"),
    [
        ({"index": "product-variant"}, "index", "product-variants"),
        ({"key": "colour"}, "link", "both must be of one kind"),
        ({"link": "identity"}, "link", "the index has no field"),
        (
            {"rules": [{"field_name": "size", "field_type": "keyword", "operator": "is_set"}]},
            "rules/0/field_name",
            "index",
        ),
    ],
)
def test_faults_name_their_place(partner: Api, changes: dict[str, Any], member: str, words: str) -> None:
    answer = partner.post("/segments/preview", linked(**changes))
    assert answer.status_code == 422
    assert list(pointers(answer)) == [f"/rules/0/{member}"]
    assert words in pointers(answer)[f"/rules/0/{member}"] or words in answer.get_data(as_text=True)
    body = task_body(trigger={"once": "2999-05-26T12:00:00Z", "segment": linked(**changes)})
    assert list(pointers(partner.post("/tasks", body))) == [f"/trigger/segment/rules/0/{member}"]


def test_a_group_of_too_many_documents_is_refused_with_their_number(
    tmp_path: Path, migrated: Path, contract: Contract
) -> None:
    with standing(tmp_path, migrated, contract, limits={"linked_documents": 1}) as world:
        write(world.services.settings.files.directory)
        partner = world.caller()
        assert partner.post("/segments/preview", linked()).status_code == 200
        every = [{"field_name": "id", "field_type": "number", "operator": "is_set"}]
        problem = check_problem(partner.post("/segments/preview", linked(rules=every)))
        assert (problem["status"], problem["code"]) == (422, "link_limit")
        assert "selects 2 documents, over the limit of 1" in problem["detail"]


def test_an_index_that_the_source_lacks_is_a_fault(partner: Api) -> None:
    assert list(pointers(partner.post("/segments/preview", {"segment": linked()}))) == ["/segment"]
    body = task_body(trigger={"once": "2999-05-26T12:00:00Z", "segment": linked()})
    assert list(pointers(partner.post("/tasks", body))) == ["/trigger/segment"]
