from __future__ import annotations

import json
from typing import Any

import pytest

from tasks_service.errors import SnapshotLostError, SourceError
from tasks_service.sources.elasticsearch_calls import index_path, judged
from tasks_service.sources.elasticsearch_pages import PartialAnswerError, error_types, read_count, read_page
from tasks_service.sources.elasticsearch_shares import slice_count

SHARDS = {"total": 3, "successful": 3, "skipped": 0, "failed": 0}


def answer(count: int = 2, **changes: Any) -> bytes:
    found = [
        {"_index": "i", "_id": str(number), "_score": None, "_source": {"id": number}, "sort": [number, number]}
        for number in range(count)
    ]
    whole = {"pit_id": "next", "took": 1, "timed_out": False, "_shards": SHARDS, "hits": {"hits": found}}
    return json.dumps({**whole, **changes}).encode()


def read(body: bytes, *, size: int = 10, after: list[int] | None = None) -> Any:
    return read_page(body, shards=3, size=size, after=after)


def test_a_whole_page_gives_raw_documents_and_where_to_go_on() -> None:
    body = answer().replace(b'{"id": 1}', b'{ "id":  1.10, "big": 123456789012345678901234567890 }')
    page = read(body)
    assert page.documents == [b'{"id": 0}', b'{ "id":  1.10, "big": 123456789012345678901234567890 }']
    assert (page.last, page.pit_id, page.size) == ([1, 1], "next", len(body))


def test_half_a_character_in_a_document_stays_and_stops_nothing() -> None:
    odd = rb'{"a":"\ud800","b":"\\ud800 \ud83d\ude00 \"_source\":"}'
    body = answer(4).replace(b'{"id": 1}', odd).replace(b'{"id": 2}', odd).replace(b'"_id": "3"', rb'"_id": "\ud800"')
    page = read(body)
    assert page.documents == [b'{"id": 0}', odd, odd, b'{"id": 3}']
    assert page.last == [3, 3]


def test_an_empty_page_is_whole_when_every_shard_answered() -> None:
    assert read(answer(0)).documents == []


@pytest.mark.parametrize(
    "changes",
    [
        {"timed_out": True},
        {"terminated_early": True},
        {"_shards": {**SHARDS, "failed": 1}},
        {"_shards": {**SHARDS, "successful": 2}},
        {"_shards": {"total": 0, "successful": 0, "skipped": 0, "failed": 0}},
        {"_shards": {"total": 2, "successful": 2, "skipped": 0, "failed": 0}},
        {"_shards": {"total": 4, "successful": 4, "skipped": 0, "failed": 0}},
    ],
)
@pytest.mark.parametrize("hits", [0, 2])
def test_a_page_that_is_not_whole_is_refused(changes: dict[str, Any], hits: int) -> None:
    with pytest.raises(PartialAnswerError):
        read(answer(hits, **changes))


@pytest.mark.parametrize("missing", ["timed_out", "_shards", "hits"])
def test_an_answer_without_its_frame_is_refused(missing: str) -> None:
    whole = json.loads(answer())
    del whole[missing]
    with pytest.raises(PartialAnswerError):
        read(json.dumps(whole).encode())


@pytest.mark.parametrize("body", [b"", b"<html>", answer()[:-1], answer()[: len(answer()) // 2], b"null", b"\xff"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(PartialAnswerError):
        read(body)


def test_a_page_goes_on_where_the_one_before_ended() -> None:
    assert read(answer(), after=[-1, 5]).last == [1, 1]
    for after in ([0, 0], [0, 1], [7, 7]):
        with pytest.raises(PartialAnswerError):
            read(answer(), after=after)


def sorted_answer(*sorts: list[Any]) -> bytes:
    found = [{"_source": {"id": number}, "sort": sort} for number, sort in enumerate(sorts)]
    return answer(hits={"hits": found})


def read_sorted(*sorts: list[Any], down: tuple[bool, ...], after: list[Any] | None = None) -> Any:
    return read_page(sorted_answer(*sorts), shards=3, size=10, after=after, descending=down)


@pytest.mark.parametrize(
    ("down", "sorts"),
    [
        ((False,), [["a", 3], ["b", 1], ["b", 2], [None, 0], [None, 9]]),
        ((True,), [["b", 1], ["b", 2], ["a", 0], [None, 0]]),
        ((False,), [[-1.5, 1], [-0.0, 9], [0.0, 1], [1, 0], ["Infinity", 0], ["Infinity", 1]]),
        ((True,), [[1.5, 1], [0.0, 9], [-0.0, 1], ["-Infinity", 0]]),
        ((False, True), [[2**63 - 1, 5, 1], [2**63 - 1, -5, 0]]),
    ],
)
def test_every_hit_of_a_sorted_page_stands_where_it_was_asked_to(
    down: tuple[bool, ...], sorts: list[list[Any]]
) -> None:
    assert read_sorted(*sorts, down=down).last == sorts[-1]
    assert read_sorted(*sorts[1:], down=down, after=sorts[0]).last == sorts[-1]
    for at in range(len(sorts) - 1):
        swapped = [*sorts[:at], sorts[at + 1], sorts[at], *sorts[at + 2 :]]
        with pytest.raises(PartialAnswerError, match="sorted"):
            read_sorted(*swapped, down=down)
        with pytest.raises(PartialAnswerError, match="sorted"):
            read_sorted(*sorts[at:], down=down, after=sorts[at])


@pytest.mark.parametrize("sorts", [[["a"]], [["a", 1, 2]], [["a", 1], [3, 2]], [[["a"], 1]]])
def test_sort_values_of_another_kind_are_refused(sorts: list[list[Any]]) -> None:
    with pytest.raises(PartialAnswerError, match="sorted"):
        read_sorted(*sorts, down=(False,))


def test_a_page_of_more_hits_than_asked_for_is_refused() -> None:
    with pytest.raises(PartialAnswerError):
        read(answer(3), size=2)


@pytest.mark.parametrize("sort", ["[]", "[1]", "[1,2,3]", '["a","b"]', "null"])
def test_hits_without_both_sort_values_are_refused(sort: str) -> None:
    body = answer().replace(b'"sort": [1, 1]', b'"sort": ' + sort.encode())
    with pytest.raises(PartialAnswerError):
        read(body)


def test_a_hit_without_source_is_an_error_and_no_empty_row() -> None:
    body = answer().replace(b'"_source": {"id": 1}, ', b"")
    with pytest.raises(SourceError, match="_source"):
        read(body)


def counted(**changes: Any) -> bytes:
    total = {"value": 12345, "relation": "eq"}
    return answer(0, **{"hits": {"total": total, "hits": []}, **changes})


def test_a_count_is_exact_and_says_how_many_shards_counted() -> None:
    found = read_count(counted(), shards=None)
    assert (found.total, found.shards, found.pit_id) == (12345, 3, "next")


@pytest.mark.parametrize(
    "changes",
    [
        {"hits": {"total": {"value": 10000, "relation": "gte"}, "hits": []}},
        {"hits": {"hits": []}},
        {"_shards": {"total": 0, "successful": 0, "failed": 0}},
        {"timed_out": True},
    ],
)
def test_a_count_that_is_not_exact_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PartialAnswerError):
        read_count(counted(**changes), shards=None)


def test_a_count_of_other_shards_than_were_opened_is_refused() -> None:
    with pytest.raises(PartialAnswerError):
        read_count(counted(), shards=4)


# -- errors --------------------------------------------------------------------------------------------------------


def error(status: int, *types: str) -> Exception:
    causes = [{"type": kind, "reason": "secret detail"} for kind in types]
    body = {
        "error": {"root_cause": causes, "type": "search_phase_execution_exception", "reason": "x"},
        "status": status,
    }
    return judged(status, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, "search_context_missing_exception"),
        (404, "search_context_missing_nodes_exception"),
        (503, "no_shard_available_action_exception"),
    ],
)
def test_a_lost_snapshot_is_told_from_an_unavailable_server(status: int, kind: str) -> None:
    assert isinstance(error(status, kind), SnapshotLostError)


def test_whatever_is_missing_of_a_snapshot_that_was_there_it_is_lost() -> None:
    body = json.dumps({"error": {"type": "whatever_a_later_version_calls_it"}}).encode()
    assert isinstance(judged(404, body, pinned=True), SnapshotLostError)
    assert isinstance(judged(404, body), SourceError)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(status: int) -> None:
    assert isinstance(error(status, "es_rejected_execution_exception"), PartialAnswerError)
    assert isinstance(judged(status, b"<html>bad gateway</html>"), PartialAnswerError)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_what_will_not_pass_is_an_error_that_says_nothing_of_the_servers_text(status: int) -> None:
    refused = error(status, "query_shard_exception")
    assert isinstance(refused, SourceError)
    assert "secret" not in str(refused)
    assert "query_shard" not in str(refused)


def test_a_missing_index_is_named_as_such() -> None:
    assert "no such index" in str(error(404, "index_not_found_exception"))


def test_an_index_missing_under_a_snapshot_is_a_lost_snapshot() -> None:
    assert isinstance(judged(404, b'{"error":{"type":"index_not_found_exception"}}', pinned=True), SnapshotLostError)


def test_types_of_errors_are_found_at_any_depth() -> None:
    assert error_types(b'{"error":{"failed_shards":[{"reason":{"type":"a","caused_by":{"type":"b"}}}]}}') == {"a", "b"}
    assert error_types(b"nothing") == set()


@pytest.mark.parametrize("name", ["../_all", "a/b", "a,b", "<x>", "a?b", "*"])
def test_an_index_name_cannot_reach_another_path(name: str) -> None:
    path = index_path(name, "/_pit")
    assert path.endswith("/_pit")
    assert not set("?,<>*") & set(path)
    assert path.count("/") == 2


# -- slices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 5, 16, 700, 1024])
@pytest.mark.parametrize("total", [20_001, 100_000, 1_000_000, 100_000_000])
@pytest.mark.parametrize("readers", [1, 4, 64])
def test_slices_are_a_multiple_of_the_shards_within_the_servers_limit(shards: int, total: int, readers: int) -> None:
    slices = slice_count(total, shards, readers)
    assert slices % shards == 0
    assert shards <= slices <= 1024


def test_few_rows_are_read_in_one_piece() -> None:
    assert slice_count(0, 4, 4) == slice_count(20_000, 4, 4) == 1


def test_many_rows_give_every_reader_several_slices() -> None:
    assert slice_count(10_000_000, 4, 4) == 16
    assert slice_count(10_000_000, 1, 4) == 16
    assert slice_count(10_000_000, 3, 4) == 18
