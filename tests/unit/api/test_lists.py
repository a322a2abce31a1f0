from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.api.conftest import CHAIN, OTHER_CHAIN, Api, World, task_body


def follow(caller: Api, url: str | None) -> dict:
    assert url is not None
    assert url.startswith("http://exports.test/")
    answer = caller.get(url.removeprefix("http://exports.test"))
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def ids(page: dict) -> list[int]:
    return [one["id"] for one in page["results"]]


def test_newest_first_page_by_page_and_back(partner: Api) -> None:
    made = [partner.create()["id"] for _ in range(7)][::-1]
    pages = [partner.get("/tasks?limit=3").get_json()]
    while pages[-1]["next"]:
        pages.append(follow(partner, pages[-1]["next"]))
    assert [ids(page) for page in pages] == [made[:3], made[3:6], made[6:]]
    assert pages[0]["previous"] is None
    back = [pages[-1]]
    while back[-1]["previous"]:
        back.append(follow(partner, back[-1]["previous"]))
    assert [ids(page) for page in back[1:]] == [made[3:6], made[:3]]
    assert back[-1]["next"] is not None


def test_a_walk_sees_each_task_once_while_others_are_made(partner: Api) -> None:
    made = [partner.create()["id"] for _ in range(6)]
    seen, url = [], "http://exports.test/tasks?limit=2"
    while url:
        page = follow(partner, url)
        seen += ids(page)
        partner.create()
        url = page["next"]
    assert seen == made[::-1]
    # What was made meanwhile is before the first page, and is found by going back from it.
    newest = follow(partner, follow(partner, "http://exports.test/tasks?limit=2")["next"])["previous"]
    assert follow(partner, newest)["results"]


def test_a_deleted_row_breaks_no_cursor(partner: Api) -> None:
    made = [partner.create()["id"] for _ in range(4)][::-1]
    page = partner.get("/tasks?limit=2").get_json()
    for task_id in made[1:3]:
        partner.request("DELETE", f"/tasks/{task_id}")
    after = follow(partner, page["next"])
    assert ids(after) == made[3:]
    assert ids(follow(partner, after["previous"])) == made[:1]


def test_an_empty_page_at_the_end_leads_back(partner: Api) -> None:
    made = [partner.create()["id"] for _ in range(3)][::-1]
    page = partner.get("/tasks?limit=2").get_json()
    partner.request("DELETE", f"/tasks/{made[2]}")
    empty = follow(partner, page["next"])
    assert (ids(empty), empty["next"]) == ([], None)
    assert ids(follow(partner, empty["previous"])) == made[:2]


def test_an_empty_list_has_no_links(partner: Api) -> None:
    assert partner.get("/tasks").get_json() == {"results": [], "next": None, "previous": None}


def test_filters_choose_and_stay_in_the_links(world: World, partner: Api) -> None:
    done = [partner.create(trigger={"once": "2020-01-01T00:00:00Z"})["id"] for _ in range(3)]
    for _ in done:
        partner.publish(partner.claim())
    partner.create()
    page = partner.get("/tasks?state=DONE&export_index=products&limit=2").get_json()
    assert ids(page) == done[:0:-1]
    assert parse_qs(urlsplit(page["next"]).query)["state"] == ["DONE"]
    assert ids(follow(partner, page["next"])) == done[:1]
    assert page["results"][0]["result"]["records_count"] == 1
    assert "logs" not in page["results"][0]
    assert ids(partner.get("/tasks?state=ERROR").get_json()) == []
    assert ids(partner.get("/tasks?export_index=users").get_json()) == []


def test_created_after_is_inclusive_and_before_exclusive(partner: Api) -> None:
    first = partner.create()
    partner.forward(hours=1)
    second = partner.create()
    moment = partner.now().replace(microsecond=0)
    for query, expected in (
        (f"created_after={moment:%Y-%m-%dT%H:%M:%SZ}", [second["id"]]),
        (f"created_before={moment:%Y-%m-%dT%H:%M:%SZ}", [first["id"]]),
        ("created_after=2020-01-01T00:00:00%2B02:00", [second["id"], first["id"]]),
    ):
        assert ids(partner.get(f"/tasks?{query}").get_json()) == expected


@pytest.mark.parametrize(
    "query",
    ["created_after=yesterday", "created_before=2020-01-01", "created_after=2020-01-01T00:00:00", "created_after="],
)
def test_a_moment_needs_an_offset(partner: Api, query: str) -> None:
    answer = partner.get(f"/tasks?{query}")
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["parameter"] == query.split("=", maxsplit=1)[0]


def test_an_unknown_index_or_state_is_told_the_known_ones(partner: Api) -> None:
    answer = partner.get("/tasks?export_index=product&state=FINISHED")
    assert answer.status_code == 422
    assert "INPROGRESS" in answer.get_json()["errors"][0]["detail"]
    assert "`products`" in partner.get("/tasks?export_index=product").get_json()["errors"][0]["detail"]


def test_a_cursor_belongs_to_its_list_and_its_client(world: World, partner: Api) -> None:
    _, _, task_id = [partner.create()["id"] for _ in range(3)]
    cursor = parse_qs(urlsplit(partner.get("/tasks?limit=1").get_json()["next"]).query)["cursor"][0]
    assert partner.get(f"/tasks?cursor={cursor}").status_code == 200
    for path in (f"/tasks?state=READY&cursor={cursor}", f"/tasks/{task_id}/runs?cursor={cursor}"):
        assert partner.get(path).status_code == 422, path
    assert world.caller().get(f"/tasks?cursor={cursor}").status_code == 422


def test_every_flipped_bit_of_a_cursor_is_noticed(partner: Api) -> None:
    for _ in range(2):
        partner.create()
    cursor = parse_qs(urlsplit(partner.get("/tasks?limit=1").get_json()["next"]).query)["cursor"][0]
    for position in range(len(cursor)):
        other = "A" if cursor[position] != "A" else "B"
        changed = cursor[:position] + other + cursor[position + 1 :]
        answer = partner.get(f"/tasks?cursor={changed}")
        # The last character may carry bits of no byte; then the cursor is the same one.
        assert answer.status_code == 422 or position == len(cursor) - 1, changed


def test_each_chain_lists_its_own(partner: Api, stranger: Api, operator: Api) -> None:
    own = partner.create()["id"]
    other = stranger.post("/tasks", task_body(chain=OTHER_CHAIN)).get_json()["id"]
    assert ids(partner.get("/tasks").get_json()) == [own]
    assert ids(partner.get(f"/tasks?chain={CHAIN}").get_json()) == [own]
    assert ids(stranger.get("/tasks").get_json()) == [other]
    assert partner.get(f"/tasks?chain={OTHER_CHAIN}").status_code == 403
    assert ids(operator.get("/tasks").get_json()) == [other, own]
    assert ids(operator.get(f"/tasks?chain={OTHER_CHAIN}").get_json()) == [other]


def test_runs_are_paged_too(partner: Api) -> None:
    task_id = partner.create(trigger={"cron": "0 2 * * *"})["id"]
    for _ in range(3):
        partner.post(f"/tasks/{task_id}/execute", Prefer="wait=0")
        partner.publish(partner.claim())
    page = partner.get(f"/tasks/{task_id}/runs?limit=2").get_json()
    assert ids(page) == [3, 2]
    assert ids(follow(partner, page["next"])) == [1]
