"""Every fault between the service and a real Elasticsearch ends in the whole data or in an error of its name."""

from __future__ import annotations

import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from segments import EVERYTHING
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import (
    IncompleteError,
    ServiceError,
    SnapshotLostError,
    SourceError,
    SourceUnavailableError,
)
from tasks_service.sources import Snapshot
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.elasticsearch_calls import ATTEMPTS, Calls
from tests.servers.elasticsearch_front import Exchange, Fault, Front, fronted

ROWS = 30_000  # more than one slice
SHARDS = 3
MAPPING = {"properties": {"id": {"type": "long"}, "chain_id": {"type": "integer"}, "name": {"type": "keyword"}}}


def ask(url: str, method: str, path: str, body: bytes | None = None) -> Any:
    kind = "application/x-ndjson" if path.endswith("/_bulk") else "application/json"
    request = urllib.request.Request(url + path, data=body, method=method, headers={"content-type": kind})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- loopback
        return json.loads(answer.read())


def make_index(url: str, name: str, rows: int, **mapping: Any) -> None:
    settings = {"number_of_shards": SHARDS, "number_of_replicas": 0}
    body = {"settings": settings, "mappings": {**MAPPING, **mapping}}
    ask(url, "PUT", f"/{name}", json.dumps(body).encode())
    lines = [
        b'{"index":{}}\n{"id":%d,"chain_id":%d,"name":"row %d"}\n' % (row, 1 + row % 5 // 4, row) for row in range(rows)
    ]
    if lines:
        assert not ask(url, "POST", f"/{name}/_bulk", b"".join(lines))["errors"]
    ask(url, "POST", f"/{name}/_refresh")


@pytest.fixture(scope="module")
def name(elasticsearch_url: str) -> Iterator[str]:
    made = f"faults-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, made, ROWS)
    yield made
    ask(elasticsearch_url, "DELETE", f"/{made}")


@pytest.fixture
def front(elasticsearch_url: str) -> Iterator[Front]:
    with fronted(elasticsearch_url) as made:
        yield made


@pytest.fixture
def source(front: Front) -> Iterator[ElasticsearchSource]:
    made = source_of(front.url)
    yield made
    made.close()


def source_of(url: str, **settings: Any) -> ElasticsearchSource:
    wanted = ElasticsearchSettings(urls=[url], page_bytes=256 * 1024, request_timeout_seconds=30, **settings)
    return ElasticsearchSource(wanted, 30, calls=Calls(wanted, jitter=lambda: 0.0))


def index(name: str) -> IndexSettings:
    return IndexSettings(file_prefix="X", source=name)


EXPECTED = {row for row in range(ROWS) if row % 5 < 4}


def read(snapshot: Snapshot, wanted: int) -> list[int]:
    found: list[int] = []
    errors: list[BaseException] = []

    def drain(pages: Iterator[list[bytes]]) -> None:
        try:
            for page in pages:
                found.extend(json.loads(one)["id"] for one in page)
        except BaseException as error:  # noqa: BLE001 -- raised again below
            errors.append(error)

    threads = [threading.Thread(target=drain, args=(pages,)) for pages in snapshot.partitions(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def export(source: ElasticsearchSource, name: str, wanted: int = 3) -> list[int]:
    with source.open(index(name), EVERYTHING, chain=1, limit=None) as snapshot:
        found = read(snapshot, wanted)
        assert snapshot.total == len(found)
        return found


def some_pages(change: Callable[[Exchange], None], *, first: int = 2, times: int = 2) -> Fault:
    """A fault that befalls pages number `first` and so many after it."""
    pages = 0

    def fault(exchange: Exchange) -> None:
        nonlocal pages
        if exchange.is_page:
            pages += 1
            if first <= pages < first + times:
                change(exchange)

    return fault


def set_shards(**members: int) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.change(_shards={**exchange.answer["_shards"], **members})


def emptied(exchange: Exchange) -> None:
    exchange.change(hits={**exchange.answer["hits"], "hits": []})


def no_shards(exchange: Exchange) -> None:
    exchange.change(_shards=dict.fromkeys(("total", "successful", "skipped", "failed"), 0), hits={"hits": []})


def partial(exchange: Exchange) -> None:
    hits = exchange.answer["hits"]["hits"]
    exchange.change(
        _shards={**exchange.answer["_shards"], "failed": 1, "successful": SHARDS - 1}, hits={"hits": hits[::2]}
    )


def cut(at: float) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.cut = int(len(exchange.body) * at)

    return change


def half_a_body(exchange: Exchange) -> None:
    exchange.body = exchange.body[: len(exchange.body) // 2]


def failing(status: int, kind: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.fail(status, kind)


def gateway(exchange: Exchange) -> None:
    exchange.status, exchange.body = 502, b"<html>Bad gateway</html>"


PASSING = {
    "shards failed": partial,
    "a shard failed and the rest is there": set_shards(failed=1),
    "time ran out": lambda exchange: exchange.change(timed_out=True),
    "ended early": lambda exchange: exchange.change(terminated_early=True),
    "not every shard": set_shards(total=2, successful=2),
    "no shard at all": no_shards,
    "connection reset": cut(0),
    "reset in mid-body": cut(0.5),
    "reset before the last byte": cut(0.999),
    "half a body, whole to HTTP": half_a_body,
    "rejected": failing(429, "es_rejected_execution_exception"),
    "unavailable": failing(503, "cluster_block_exception"),
    "bad gateway": gateway,
    "gateway time-out": failing(504, "timeout"),
    "internal error": failing(500, "something"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_asked_again_and_the_data_is_whole(
    front: Front, source: ElasticsearchSource, name: str, fault: str
) -> None:
    front.fault = some_pages(PASSING[fault])
    found = export(source, name)
    assert sorted(found) == sorted(EXPECTED)


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_ends_in_an_error_and_never_in_fewer_rows(
    front: Front, source: ElasticsearchSource, name: str, fault: str
) -> None:
    front.fault = some_pages(PASSING[fault], times=10_000)
    with pytest.raises(SourceUnavailableError) as caught:
        export(source, name)
    assert caught.value.retryable
    assert "front-of-the-test" not in str(caught.value)


@pytest.mark.parametrize("first", [1, 2, 5])
def test_an_emptied_page_is_never_the_end_of_the_data(
    front: Front, source: ElasticsearchSource, name: str, first: int
) -> None:
    front.fault = some_pages(emptied, first=first, times=1)
    with pytest.raises(IncompleteError):
        export(source, name)


def test_a_shortened_page_is_read_on_or_refused(front: Front, source: ElasticsearchSource, name: str) -> None:
    def shorten(exchange: Exchange) -> None:
        exchange.change(hits={"hits": exchange.answer["hits"]["hits"][:-3]})

    front.fault = some_pages(shorten, times=1)
    with pytest.raises(IncompleteError):
        export(source, name)


def test_a_repeated_page_is_refused(front: Front, source: ElasticsearchSource, name: str) -> None:
    kept: list[bytes] = []

    def repeat(exchange: Exchange) -> None:
        if exchange.is_page and "search_after" not in exchange.request and not kept:
            kept.append(exchange.body)
        elif exchange.is_page and kept and "search_after" in exchange.request:
            exchange.body = kept[0]

    front.fault = repeat
    with pytest.raises(SourceUnavailableError):
        export(source, name, wanted=1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, "search_context_missing_exception"),
        (404, "search_context_missing_nodes_exception"),
        (404, "whatever_a_later_version_calls_it"),
        (503, "no_shard_available_action_exception"),
    ],
)
def test_a_lost_snapshot_is_named_and_not_asked_again(
    front: Front, source: ElasticsearchSource, name: str, status: int, kind: str
) -> None:
    front.fault = some_pages(failing(status, kind), times=10_000)
    with pytest.raises(SnapshotLostError):
        export(source, name, wanted=1)
    assert sum(exchange.is_page for exchange in front.seen) == 2


def test_a_point_in_time_closed_by_somebody_else_is_a_lost_snapshot(
    elasticsearch_url: str, source: ElasticsearchSource, name: str
) -> None:
    with source.open(index(name), EVERYTHING, chain=1, limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        next(pages)
        ask(elasticsearch_url, "DELETE", "/_pit", json.dumps({"id": snapshot._pit_id}).encode())  # type: ignore[attr-defined]
        with pytest.raises(SnapshotLostError):
            list(pages)


def test_an_index_deleted_while_it_is_read_is_a_lost_snapshot(
    elasticsearch_url: str, source: ElasticsearchSource
) -> None:
    doomed = f"doomed-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, doomed, 3000)
    with source.open(index(doomed), EVERYTHING, chain=1, limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        next(pages)
        ask(elasticsearch_url, "DELETE", f"/{doomed}")
        with pytest.raises(SnapshotLostError):
            list(pages)


def test_a_point_in_time_id_that_is_none_is_refused(front: Front, source: ElasticsearchSource, name: str) -> None:
    """The server answers 200 with no hits and no shards; here its real answer to such an id comes."""

    def swap(exchange: Exchange) -> None:
        if exchange.path.endswith("_pit?keep_alive=300s"):
            exchange.change(id="AAAA")

    front.fault = swap
    with pytest.raises(SourceUnavailableError):
        export(source, name)


@pytest.mark.parametrize("gone", ["count", "open", "mapping"])
def test_opening_ends_in_an_error_when_a_call_keeps_failing(
    front: Front, source: ElasticsearchSource, name: str, gone: str
) -> None:
    paths = {"count": "_search", "open": "_pit?", "mapping": "_mapping"}

    def fault(exchange: Exchange) -> None:
        if paths[gone] in exchange.path:
            exchange.fail(503, "cluster_block_exception")

    front.fault = fault
    with pytest.raises(SourceUnavailableError):
        export(source, name)
    assert sum(paths[gone] in exchange.path for exchange in front.seen) == ATTEMPTS


def test_a_count_that_is_not_exact_is_refused(front: Front, source: ElasticsearchSource, name: str) -> None:
    def fault(exchange: Exchange) -> None:
        if "_search" in exchange.path and not exchange.is_page:
            exchange.change(hits={"total": {"value": 10, "relation": "gte"}, "hits": []})

    front.fault = fault
    with pytest.raises(SourceUnavailableError):
        export(source, name)


@pytest.mark.parametrize("change", [1, -1])
def test_rows_other_than_the_count_are_an_error(
    front: Front, source: ElasticsearchSource, name: str, change: int
) -> None:
    def fault(exchange: Exchange) -> None:
        if "_search" in exchange.path and not exchange.is_page:
            total = exchange.answer["hits"]["total"]
            exchange.change(hits={"total": {**total, "value": total["value"] + change}, "hits": []})

    front.fault = fault
    with pytest.raises(IncompleteError):
        export(source, name)


def test_a_refresh_that_is_not_permitted_is_done_without(front: Front, source: ElasticsearchSource, name: str) -> None:
    def fault(exchange: Exchange) -> None:
        if "_refresh" in exchange.path:
            exchange.fail(403, "security_exception")

    front.fault = fault
    assert len(export(source, name)) == len(EXPECTED)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_are_named(
    front: Front, source: ElasticsearchSource, name: str, status: int
) -> None:
    front.fault = lambda exchange: exchange.fail(status, "security_exception")
    with pytest.raises(SourceError, match="user or API key"):
        source.catalog(index(name))


def test_a_refused_query_says_nothing_of_the_servers_text(front: Front, source: ElasticsearchSource, name: str) -> None:
    front.fault = some_pages(failing(400, "query_shard_exception"))
    with pytest.raises(SourceError) as caught:
        export(source, name)
    assert "front-of-the-test" not in str(caught.value)
    assert not caught.value.retryable


def test_the_snapshot_is_closed_with_the_newest_id_however_reading_ended(
    front: Front, source: ElasticsearchSource, name: str
) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.is_page and "search_after" in exchange.request:
            exchange.fail(400, "query_shard_exception")

    front.fault = fault
    with pytest.raises(ServiceError):
        export(source, name, wanted=1)
    closing = [exchange for exchange in front.seen if exchange.method == "DELETE"]
    newest = [exchange.answer["pit_id"] for exchange in front.seen if exchange.is_page and exchange.status == 200]
    assert [exchange.request["id"] for exchange in closing] == [newest[-1]]
    assert closing[0].answer["num_freed"] == SHARDS


def test_closing_does_no_harm_when_the_server_is_gone(front: Front, source: ElasticsearchSource, name: str) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            exchange.cut = 0

    front.fault = fault
    assert len(export(source, name)) == len(EXPECTED)


def test_what_is_sent_is_what_keeps_answers_whole_and_cheap(
    front: Front, source: ElasticsearchSource, name: str
) -> None:
    export(source, name)
    pages = [exchange for exchange in front.seen if exchange.is_page]
    slices = {tuple(exchange.request["slice"].items()) for exchange in pages}
    assert {dict(one)["max"] % SHARDS for one in slices} == {0}
    assert len(slices) == dict(next(iter(slices)))["max"]
    for exchange in pages:
        assert "allow_partial_search_results=false" in exchange.path
        assert "filter_path" not in exchange.path
        assert exchange.request["track_total_hits"] is False
        assert exchange.request["sort"] == ["_doc"]
        assert "_source" not in exchange.request
        assert len(exchange.request.get("search_after", [0, 0])) == 2
        assert exchange.request["query"] == pages[0].request["query"]


def test_pages_adapt_to_the_size_of_documents(front: Front, elasticsearch_url: str) -> None:
    name = f"sizes-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, name, 0)
    big = b'{"index":{}}\n{"id":1,"chain_id":1,"name":"%s"}\n' % (b"x" * 20_000)
    ask(elasticsearch_url, "POST", f"/{name}/_bulk?refresh=true", big * 1200)
    source = source_of(front.url)
    assert len(export(source, name, wanted=1)) == 1200
    source.close()
    sizes = [exchange.request["size"] for exchange in front.seen if exchange.is_page]
    assert sizes[0] == 8  # nothing is known of them yet: 40 MB of documents of 5 MB
    assert max(sizes[1:]) < 20  # 256 KiB of 20 kB documents
    bytes_of_pages = [len(exchange.body) for exchange in front.seen if exchange.is_page]
    assert max(bytes_of_pages) < 2 * 256 * 1024
    ask(elasticsearch_url, "DELETE", f"/{name}")


def test_pages_grow_step_by_step(front: Front, source: ElasticsearchSource, name: str) -> None:
    """What the first documents weigh says little of the next ones."""
    export(source, name, wanted=1)
    sizes = [exchange.request["size"] for exchange in front.seen if exchange.is_page]
    assert sizes[:2] == [8, 128]
    assert max(sizes) > 1000


def test_the_catalogue_is_read_again_after_a_while(elasticsearch_url: str) -> None:
    name = f"mapping-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, name, 10)
    now = [0.0]
    source = ElasticsearchSource(ElasticsearchSettings(urls=[elasticsearch_url]), 30, clock=lambda: now[0])
    before = [column.name for column in source.catalog(index(name)).columns]
    ask(elasticsearch_url, "PUT", f"/{name}/_mapping", b'{"properties":{"added":{"type":"keyword"}}}')
    assert [column.name for column in source.catalog(index(name)).columns] == before
    now[0] = 31.0
    assert [column.name for column in source.catalog(index(name)).columns] == ["added", *before]
    source.close()
    ask(elasticsearch_url, "DELETE", f"/{name}")


def test_an_alias_over_several_indices_is_read_whole(elasticsearch_url: str) -> None:
    names = [f"part-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    alias = f"alias-{uuid.uuid4().hex[:8]}"
    for name in names:
        make_index(elasticsearch_url, name, 15_000)
    actions = {"actions": [{"add": {"indices": names, "alias": alias}}]}
    ask(elasticsearch_url, "POST", "/_aliases", json.dumps(actions).encode())
    source = source_of(elasticsearch_url)
    found = export(source, alias)
    assert sorted(found) == sorted(2 * [row for row in range(15_000) if row % 5 < 4])
    source.close()
    for name in names:
        ask(elasticsearch_url, "DELETE", f"/{name}")


def test_an_index_without_source_is_refused(elasticsearch_url: str) -> None:
    name = f"nosource-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, name, 1, _source={"enabled": False})
    source = source_of(elasticsearch_url)
    with pytest.raises(SourceError, match="_source"):
        export(source, name)
    source.close()
    ask(elasticsearch_url, "DELETE", f"/{name}")


def test_documents_indexed_with_line_breaks_arrive_as_they_are(elasticsearch_url: str) -> None:
    name = f"pretty-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, name, 0)
    pretty = b'{\n  "id" : 1,\r\n  "chain_id" : 1,\n  "name" : "\\ud800 a\\nb"\n}'
    ask(elasticsearch_url, "POST", f"/{name}/_doc?refresh=true", pretty)
    source = source_of(elasticsearch_url)
    with source.open(index(name), EVERYTHING, chain=1, limit=None) as snapshot:
        assert [one for pages in snapshot.partitions(1) for page in pages for one in page] == [pretty]
    source.close()
    ask(elasticsearch_url, "DELETE", f"/{name}")


def test_version_9_is_read_the_same_way(elasticsearch9_url: str) -> None:
    name = f"nine-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch9_url, name, ROWS)
    source = source_of(elasticsearch9_url)
    source.check()
    assert sorted(export(source, name)) == sorted(EXPECTED)
    assert source.sample(index(name), EVERYTHING, chain=1, rows=3).count == len(EXPECTED)
    with pytest.raises(SourceError, match="no such index"):
        source.catalog(index("nothing-there"))
    source.close()
    ask(elasticsearch9_url, "DELETE", f"/{name}")
