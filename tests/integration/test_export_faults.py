"""Whole exports while Elasticsearch, the storage or both misbehave: the whole file once, or an error of its name.

Every case is something that Elasticsearch 8.19 or Google Cloud Storage is known to answer when all is not well, put
between the engine and the real server. Whatever happens, the bucket holds afterwards the whole file with its manifest,
or nothing. What each adapter does about a fault is asked one by one in test_elasticsearch_faults.py and
test_gcs_storage.py.
"""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tasks_service.artifacts.sealing import Exported
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import (
    CorruptUploadError,
    IncompleteError,
    ServiceError,
    SnapshotLostError,
    SourceError,
    SourceUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from tasks_service.export import SegmentRefusedError, run_export
from tasks_service.formats.registry import COMPRESSED_FORMATS, FORMATS
from tasks_service.order import ExportOrder
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.elasticsearch_calls import Calls
from tasks_service.storage.gcs import GcsStorage
from tests.integration.test_elasticsearch_faults import (
    PASSING,
    SHARDS,
    ask,
    emptied,
    failing,
    make_index,
    no_shards,
    some_pages,
)
from tests.orders import order_of
from tests.servers.elasticsearch_front import Exchange, Fault, Front, fronted
from tests.servers.gcs import Gcs
from tests.servers.gcs_faults import Faults
from tests.storages import CHUNK, HASTE, QUICK, Place, gcs_place, gcs_settings

ROWS = 6000
EXPECTED = {row for row in range(ROWS) if row % 5 < 4}  # the chain's
LIFETIME = timedelta(hours=1)
AROUND = ("none", "gzip", "zstd")
PADDING = "x" * 120  # so that the file takes several chunks of an upload, and the index several pages


@pytest.fixture(scope="module")
def index(elasticsearch_url: str) -> Iterator[IndexSettings]:
    name = f"export-faults-{uuid.uuid4().hex[:8]}"
    make_index(elasticsearch_url, name, 0)
    lines = [
        b'{"index":{}}\n{"id":%d,"chain_id":%d,"name":"%s"}\n' % (row, 1 + row % 5 // 4, PADDING.encode())
        for row in range(ROWS)
    ]
    assert not ask(elasticsearch_url, "POST", f"/{name}/_bulk?refresh=true", b"".join(lines))["errors"]
    yield IndexSettings(file_prefix="X", source=name)
    ask(elasticsearch_url, "DELETE", f"/{name}")


@pytest.fixture
def front(elasticsearch_url: str) -> Iterator[Front]:
    with fronted(elasticsearch_url) as made:
        yield made


@pytest.fixture
def site(gcs: Gcs) -> Iterator[Place]:
    made = gcs_place(gcs)
    with made.closing:
        made.storage.check()
        gcs.faults.clear()
        yield made


class Engine:
    """The engine between the two fronts."""

    def __init__(self, front: Front, site: Place, gcs: Gcs, index: IndexSettings) -> None:
        self.front, self.site, self.faults = front, site, gcs.faults
        self.index = index

    def run(self, *, hasty: bool = False, request_seconds: float = 30, **changes: Any) -> Exported:
        settings = ElasticsearchSettings(
            urls=[self.front.url], page_bytes=64 * 1024, request_timeout_seconds=request_seconds
        )
        source = ElasticsearchSource(settings, 30, calls=Calls(settings, jitter=lambda: 0.0))
        storage = GcsStorage(gcs_settings(self.site), patience=HASTE if hasty else QUICK)
        target = changes.pop("target", {})
        order: ExportOrder = replace(order_of(target, index=self.index, chain=1, readers=2), **changes)
        try:
            return run_export(order, source, storage, lambda _progress: None)
        finally:
            source.close()
            storage.close()

    def assert_whole(self, exported: Exported, read: Callable[[bytes], bytes] = bytes) -> None:
        """Every document of the chain is in the file once, and beside it lies its manifest and nothing else."""
        assert exported.artifact is not None
        held = {stored.name: stored for stored in self.site.storage.list("")}
        assert set(held) == {stored.name for stored in exported.objects}
        assert len(held) == 2
        [file] = [name for name in held if not name.endswith("manifest.json")]
        link = self.site.storage.sign(held[file], file_name="x", content_type="text/plain", lifetime=LIFETIME).url
        lines = read(self.site.fetch(link).body).splitlines()
        assert sorted(json.loads(line)["id"] for line in lines) == sorted(EXPECTED)
        assert exported.artifact["rows"] == len(EXPECTED)

    def assert_nothing(self) -> None:
        self.faults.clear()
        assert list(self.site.storage.list("")) == []


@pytest.fixture
def engine(front: Front, site: Place, gcs: Gcs, index: IndexSettings) -> Engine:
    return Engine(front, site, gcs, index)


# -- Elasticsearch: what it answers when something is wrong ------------------------------------------------------------


def on(path: str, change: Callable[[Exchange], None]) -> Fault:
    """A fault of every answer to calls of that path."""

    def fault(exchange: Exchange) -> None:
        if path in exchange.path and exchange.request.get("size", 0) == 0:
            change(exchange)

    return fault


def lasting(change: Callable[[Exchange], None]) -> Fault:
    return some_pages(change, times=1_000_000)


def shortened(exchange: Exchange) -> None:
    exchange.change(hits={"hits": exchange.answer["hits"]["hits"][:-1]})


def doubled(exchange: Exchange) -> None:
    hits = exchange.answer["hits"]["hits"]
    exchange.change(hits={"hits": hits[:-1] + hits[-2:-1]})


def without_sources(exchange: Exchange) -> None:
    hits = exchange.answer["hits"]["hits"]
    exchange.change(hits={"hits": [{name: hit[name] for name in hit if name != "_source"} for hit in hits]})


def fewer_counted(exchange: Exchange) -> None:
    total = exchange.answer["hits"]["total"]
    exchange.change(hits={"total": {**total, "value": total["value"] - 1}, "hits": []})


def unreadable(exchange: Exchange) -> None:
    exchange.body = exchange.body.replace(b'"_source":{', b'"_source":{"half":', 1)


def not_an_id(exchange: Exchange) -> None:
    exchange.change(id="AAAA")


ELASTICSEARCH: dict[str, tuple[Callable[[], Fault], type[ServiceError]]] = {
    "the point-in-time expired": (lambda: lasting(failing(404, "search_context_missing_exception")), SnapshotLostError),
    "the index was deleted": (lambda: lasting(failing(503, "no_shard_available_action_exception")), SnapshotLostError),
    "the index was closed": (lambda: lasting(failing(400, "index_closed_exception")), SnapshotLostError),
    "a point-in-time id that is none": (lambda: on("_pit?", not_an_id), SourceUnavailableError),
    "no such index": (lambda: on("_pit?", failing(404, "index_not_found_exception")), SourceError),
    "a value of the wrong type": (lambda: lasting(failing(400, "search_phase_execution_exception")), SourceError),
    "pages larger than the index allows": (lambda: lasting(failing(400, "illegal_argument_exception")), SourceError),
    "the key was revoked": (lambda: lasting(failing(401, "security_exception")), SourceError),
    "the right was withdrawn": (lambda: lasting(failing(403, "security_exception")), SourceError),
    "a page emptied by shards that failed": (lambda: some_pages(emptied, times=1), IncompleteError),
    "the first page emptied": (lambda: some_pages(emptied, first=1, times=1), IncompleteError),
    "a page without its last hit": (lambda: some_pages(shortened, times=1), IncompleteError),
    "a hit twice, in the place of another": (lambda: lasting(doubled), IncompleteError),
    "documents without _source": (lambda: lasting(without_sources), SourceError),
    "a document that is not JSON": (lambda: lasting(unreadable), SourceUnavailableError),
    "a count that is too small": (lambda: on("_search", fewer_counted), IncompleteError),
    "a count of no shards": (lambda: on("_search", no_shards), SourceUnavailableError),
}


@pytest.mark.parametrize("fault", ELASTICSEARCH)
def test_what_elasticsearch_can_answer_ends_in_its_error_and_no_file(engine: Engine, fault: str) -> None:
    made, error = ELASTICSEARCH[fault]
    engine.front.fault = made()
    with pytest.raises(ServiceError) as caught:
        engine.run()
    assert type(caught.value) is error
    assert "front-of-the-test" not in str(caught.value)
    engine.assert_nothing()


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_ends_in_the_whole_file(engine: Engine, fault: str) -> None:
    engine.front.fault = some_pages(PASSING[fault])
    engine.assert_whole(engine.run())


def test_an_answer_that_does_not_come_is_asked_for_again(engine: Engine) -> None:
    """The server read the page and the client never learnt it: a scroll would have lost it."""
    never = threading.Event()
    engine.front.fault = some_pages(lambda _exchange: never.wait(2.5) and None, times=1)
    engine.assert_whole(engine.run(request_seconds=1))


def test_a_segment_of_a_field_the_index_does_not_have_is_refused(engine: Engine) -> None:
    """Elasticsearch itself answers 200 and no hits."""
    rule = {"field_name": "nmae", "field_type": "keyword", "operator": "is", "value": "x"}
    segment = {"entity": "people", "index": "products", "join": "all", "chain_id": 1, "rules": [rule]}
    with pytest.raises(SegmentRefusedError, match="nmae"):
        engine.run(segment=segment)
    engine.assert_nothing()


def test_an_index_without_the_field_of_the_chain_is_refused(engine: Engine) -> None:
    engine.index = engine.index.model_copy(update={"chain_field": "retailer"})
    with pytest.raises(SourceError):
        engine.run()
    engine.assert_nothing()


# -- the storage -------------------------------------------------------------------------------------------------------

Break = Callable[[Faults], object]

OUTLIVED: dict[str, Break] = {
    "the session's start fails": lambda faults: faults.fail("upload.start", times=3),
    "the start's answer is lost": lambda faults: faults.lose_answer("upload.start"),
    "a chunk fails": lambda faults: faults.fail("upload.chunk", skip=1, times=2),
    "too many requests": lambda faults: faults.fail("upload.chunk", status=429, times=3),
    "a chunk is cut off": lambda faults: faults.reset("upload.chunk", after=1000, skip=1),
    "a chunk is persisted in part": lambda faults: faults.reset("upload.chunk", after=CHUNK - 1),
    "a chunk's answer is lost": lambda faults: faults.lose_answer("upload.chunk", skip=1),
    "the first of two finishing answers is lost": lambda faults: faults.lose_answer("upload.chunk", skip=2),
    "every third answer is lost": lambda faults: [faults.lose_answer("upload.chunk", skip=2 * n) for n in range(3)],
    "the question what is persisted fails": lambda faults: [
        faults.fail("upload.chunk", skip=1), faults.fail("upload.status", times=2)
    ],
    "412 on the object that is ours": lambda faults: [
        faults.lose_answer("upload.chunk", skip=2), faults.fail("upload.status", status=412)
    ],
    "the session is gone after the commit": lambda faults: [
        faults.lose_answer("upload.chunk", skip=2), faults.fail("upload.status", status=410)
    ],
    "the finished object cannot be looked at": lambda faults: faults.fail("object.get", times=2),
}  # fmt: skip

REFUSED: dict[str, tuple[Break, type[ServiceError]]] = {
    "the storage stays away": (lambda faults: faults.fail("upload.*", times=1000), StorageUnavailableError),
    "it goes away in the middle": (lambda faults: faults.fail("upload.*", skip=2, times=1000), StorageUnavailableError),
    "the session is lost": (lambda faults: faults.fail("upload.chunk", status=410, skip=1), StorageUnavailableError),
    "the right is withdrawn": (lambda faults: faults.fail("upload.chunk", status=403, skip=1), StorageError),
    "the encryption key is disabled": (
        lambda faults: faults.fail("upload.start", status=403, message="Cloud KMS key k is disabled"),
        StorageError,
    ),
    "another checksum is reported": (
        lambda faults: faults.misreport("object.get", {"crc32c": "AAAAAA=="}), CorruptUploadError
    ),
    "another size is reported": (lambda faults: faults.misreport("object.get", {"size": "7"}), CorruptUploadError),
    "the manifest cannot be written": (
        lambda faults: faults.fail("upload.start", status=403, skip=1), StorageError
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", OUTLIVED)
def test_what_the_storage_gets_over_ends_in_the_whole_file(engine: Engine, fault: str) -> None:
    OUTLIVED[fault](engine.faults)
    engine.assert_whole(engine.run())


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_storage_does_not_get_over_ends_in_its_error_and_no_file(engine: Engine, fault: str) -> None:
    broken, error = REFUSED[fault]
    broken(engine.faults)
    with pytest.raises(ServiceError) as caught:
        engine.run(hasty=True)
    assert type(caught.value) is error
    engine.assert_nothing()


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_both_in_trouble_at_once_still_make_one_whole_file(engine: Engine, compression: str) -> None:
    changes = list(PASSING.values())
    pages = 0

    def fault(exchange: Exchange) -> None:
        nonlocal pages
        if exchange.is_page:
            pages += 1
            if pages % 2:  # every other page, each time in another way
                changes[pages % len(changes)](exchange)

    engine.front.fault = fault
    engine.faults.lose_answer("upload.chunk")
    engine.faults.fail("upload.status")
    read = gzip.decompress if compression == "gzip" else bytes
    engine.assert_whole(engine.run(target={"compression": compression}), read)
    assert pages > 2 * SHARDS


@pytest.mark.parametrize(
    ("export_format", "compression"),
    [(one, around) for one in FORMATS for around in AROUND if around == "none" or one not in COMPRESSED_FORMATS],
)
def test_a_source_that_stops_in_the_middle_finalises_no_format(
    engine: Engine, export_format: str, compression: str
) -> None:
    """A compressed stream that is closed properly would be a valid file of half the rows."""
    engine.front.fault = some_pages(failing(404, "search_context_missing_exception"), first=8, times=1_000_000)
    with pytest.raises(SnapshotLostError):
        engine.run(target={"export_format": export_format, "compression": compression})
    engine.assert_nothing()
