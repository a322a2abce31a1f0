"""Documents in Elasticsearch 8 and 9: a point-in-time read in slices, each page checked to be whole.

What lives here is the order of calls: refresh, open, count, pages, close. How a call is sent and repeated is
elasticsearch_calls.py's, what an answer is worth elasticsearch_pages.py's. Facts about the server are from its own
documentation and source for 8.19 and 9.1: slices a multiple of the shards address one shard each; `_doc` order is
cheap where `_shard_doc` alone is not; `_source` unfiltered is copied, not parsed. Called through the port.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from segments import Catalog, SegmentError, Tree, all_of, doubts, equals, to_elasticsearch
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import IncompleteError, ServiceError, SnapshotLostError, SourceError
from tasks_service.sources import Documents, Sample, Snapshot
from tasks_service.sources.catalogs import CatalogCache, still_fits
from tasks_service.sources.elasticsearch_calls import Call, Calls, index_path
from tasks_service.sources.elasticsearch_catalog import SETTINGS, left_out, read_catalog
from tasks_service.sources.elasticsearch_pages import Counted, Page, SortValues, read_count, read_page

log = structlog.stdlib.get_logger(__name__)

_SEARCH = "/_search?allow_partial_search_results=false"
_FIRST_SIZE = 500
_MOST_ROWS = 10_000  # index.max_result_window
_MOST_SLICES = 1024  # index.max_slices_per_pit
_SLICES_PER_READER = 4
"""Slices are ranges of document numbers: where matches cluster some are empty, so that readers need several each."""

_ROWS_PER_SLICE = 20_000
"""Fewer rows than this are not worth another slice's requests."""

_CHECK_SECONDS = 5.0


class ElasticsearchSource:
    """One cluster. Safe to share between threads; connects with the first call."""

    def __init__(
        self,
        settings: ElasticsearchSettings,
        catalog_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        calls: Calls | None = None,
    ) -> None:
        """Take the settings, and how long a catalogue is believed."""
        self._settings = settings
        self._calls = calls or Calls(settings)
        self._catalogs = CatalogCache(catalog_seconds, clock)
        self._closing = threading.Event()

    def catalog(self, index: IndexSettings) -> Catalog:
        """Return the fields of an index or alias. Raises SourceError, SourceUnavailableError."""
        return self._catalogs.fresh(index.source) or self._read_catalog(index)

    def _read_catalog(self, index: IndexSettings) -> Catalog:
        mappings = self._json(Call("mapping", "GET", index_path(index.source, "/_mapping")))
        path = index_path(index.source, f"/_settings/{SETTINGS}?flat_settings=true&include_defaults=true")
        # Reading settings takes a privilege that reading documents does not; without it the mapping has to do.
        settings = self._json(Call("settings", "GET", path, tolerated=(403,)))
        catalog = read_catalog(mappings, None if "error" in settings else settings)
        return self._catalogs.keep(index.source, catalog)

    def _json(self, call: Call) -> dict[str, Any]:
        return self._calls.send(call, lambda _status, body: msgspec.json.decode(body, type=dict[str, Any]), self._pause)

    def _pause(self, seconds: float) -> bool:
        return self._closing.wait(seconds)

    @contextmanager
    def open(self, index: IndexSettings, tree: Tree, *, chain: int, limit: int | None) -> Generator[Snapshot]:
        """Open a point-in-time and count the chain's matching documents in it."""
        before = self._catalogs.last(index.source)
        self._refresh(index)
        taken_at = datetime.now(UTC)
        opened = self._json(
            Call("open", "POST", index_path(index.source, f"/_pit?keep_alive={self._settings.keep_alive_seconds}s"))
        )
        snapshot = ElasticsearchSnapshot(self._calls, self._settings, str(opened["id"]), taken_at, limit)
        try:
            catalog = self._read_catalog(index)
            if before is not None and not still_fits(before, catalog):
                raise SnapshotLostError("The fields of the index changed just now; the export starts over.")
            snapshot.count(_Asked.of(index, catalog, tree, chain), catalog, opened.get("_shards", {}).get("total"))
            yield snapshot
        finally:
            snapshot.end()

    def _refresh(self, index: IndexSettings) -> None:
        """Make what was indexed until now visible, where the user is permitted to."""
        if not self._settings.refresh:
            return
        call = Call("refresh", "POST", index_path(index.source, "/_refresh"), tolerated=(403,))
        if self._calls.send(call, lambda status, _body: status, self._pause) == 403:  # noqa: PLR2004 -- HTTP's own
            log.info("source.refresh_not_permitted", index=index.source)

    def sample(self, index: IndexSettings, tree: Tree, *, chain: int, rows: int) -> Sample:
        """Count the chain's matching documents exactly and return the first `rows` of them."""
        asked = _Asked.of(index, self.catalog(index), tree, chain)
        path = index_path(index.source, _SEARCH)

        def ask(body: dict[str, Any]) -> Counted:
            call = Call("sample", "POST", path, {**body, "track_total_hits": True})
            return self._calls.send(call, lambda _status, answer: read_count(answer, shards=None), self._pause)

        asked.refuse_doubts(lambda doubtful: ask({"size": 0, "query": doubtful}).total)
        counted = ask({"size": rows, "query": asked.query, "sort": ["_doc"]})
        return Sample(counted.total, [json.loads(one) for one in counted.documents], asked.query)

    def check(self) -> None:
        """Raise where no node answers, or the credentials are not accepted."""
        call = Call("check", "GET", "/_cluster/health", tolerated=(403,), attempts=1, timeout=_CHECK_SECONDS)
        self._calls.send(call, lambda status, _body: status, self._pause)

    def close(self) -> None:
        """Release the connections, and whoever waits to repeat a call."""
        self._closing.set()
        self._calls.close()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for: the compiled query, and the one for documents it could not judge."""

    query: dict[str, Any]
    doubtful: dict[str, Any] | None
    reasons: str

    @classmethod
    def of(cls, index: IndexSettings, catalog: Catalog, tree: Tree, chain: int) -> _Asked:
        """Compile a tree, with the chain filter around it, outside anything a caller wrote."""
        try:
            own = equals(catalog, index.chain_field, chain)
        except SegmentError as exc:
            raise SourceError(f"The index has no usable chain field {index.chain_field!r}.") from exc
        chained = all_of(own, tree)
        doubtful = doubts(chained)
        if doubtful is not None:
            doubtful = {"bool": {"filter": [to_elasticsearch(own), doubtful]}}
        return cls(to_elasticsearch(chained), doubtful, left_out(catalog, chained))

    def refuse_doubts(self, count: Callable[[dict[str, Any]], int]) -> None:
        """Refuse where some of the chain's documents hold values that the server did not index."""
        found = count(self.doubtful) if self.doubtful is not None else 0
        if found:
            raise SourceError(
                f"{found} documents hold values that Elasticsearch did not index, so that this segment cannot be "
                f"answered exactly: {self.reasons}."
            )


class ElasticsearchSnapshot:
    """One point-in-time, and the documents in it that match."""

    def __init__(
        self, calls: Calls, settings: ElasticsearchSettings, pit_id: str, taken_at: datetime, limit: int | None
    ) -> None:
        """Take over the point-in-time: `end` closes it."""
        self.total = 0
        self.taken_at = taken_at
        self.query: dict[str, Any] = {}
        self.catalog = Catalog(())
        self._calls = calls
        self._settings = settings
        self._pit_id = pit_id
        self._limit = limit
        self._shards = 0
        self._keep_alive = f"{settings.keep_alive_seconds}s"
        self._ended = threading.Event()

    def count(self, asked: _Asked, catalog: Catalog, shards: int | None) -> None:
        """Count exactly, and learn how many shards every page has to come from."""
        asked.refuse_doubts(lambda doubtful: self._count(doubtful, shards).total)
        counted = self._count(asked.query, shards)
        self._shards = counted.shards
        self.catalog = catalog
        self.query = asked.query
        self.total = counted.total if self._limit is None else min(counted.total, self._limit)

    def _count(self, query: dict[str, Any], shards: int | None) -> Counted:
        body = {"size": 0, "track_total_hits": True, "query": query, "pit": self._pit(self._pit_id)}
        call = Call("count", "POST", _SEARCH, body, pinned=True)
        counted = self._calls.send(call, lambda _status, answer: read_count(answer, shards=shards), self._ended.wait)
        self._pit_id = counted.pit_id or self._pit_id
        return counted

    def _pit(self, pit_id: str) -> dict[str, str]:
        return {"id": pit_id, "keep_alive": self._keep_alive}

    def partitions(self, wanted: int) -> Sequence[Iterator[Documents]]:
        """Return iterators that take slices from one queue; with a limit there is one, in the index's own order."""
        readers = max(1, min(wanted, self._settings.slices))
        slices = 1 if self._limit is not None else slice_count(self.total, self._shards, readers)
        reading = _Reading(self.total, slices, self._limit)
        return [self._pages(reading) for _ in range(min(readers, slices))]

    def _pages(self, reading: _Reading) -> Iterator[Documents]:
        while (number := reading.next_slice()) is not None:
            yield from self._slice(number, reading)
            reading.slice_finished()

    def _slice(self, number: int, reading: _Reading) -> Iterator[Documents]:
        pit_id, after = self._pit_id, None
        while size := reading.page_size(self._settings.page_bytes):
            page = self._page(pit_id, after, size, reading.slice_of(number))
            pit_id = page.pit_id or pit_id
            self._pit_id = pit_id
            if page.documents:
                reading.took(page)
                yield page.documents
            if len(page.documents) < size:
                return
            after = page.last

    def _page(self, pit_id: str, after: SortValues | None, size: int, part: dict[str, int] | None) -> Page:
        body: dict[str, Any] = {
            "size": size,
            "track_total_hits": False,
            "sort": ["_doc"],
            "query": self.query,
            "pit": self._pit(pit_id),
        }
        if after is not None:
            body["search_after"] = after
        if part is not None:
            body["slice"] = part
        return self._calls.send(
            Call("page", "POST", _SEARCH, body, pinned=True),
            lambda _status, answer: read_page(answer, shards=self._shards, size=size, after=after),
            self._ended.wait,
        )

    def end(self) -> None:
        """Close the point-in-time; one that expired already is no harm, and one that stays expires by itself."""
        self._ended.set()
        call = Call("close", "DELETE", "/_pit", {"id": self._pit_id}, tolerated=(404,), attempts=1)
        try:
            self._calls.send(call, lambda status, _body: status, lambda _seconds: True)
        except ServiceError as error:
            log.warning("source.snapshot_left", code=error.code)


def slice_count(total: int, shards: int, readers: int) -> int:
    """Return into how many slices to divide so many rows: a multiple of the shards, several for each reader."""
    if total <= _ROWS_PER_SLICE:
        return 1
    wanted = min(readers * _SLICES_PER_READER, -(-total // _ROWS_PER_SLICE))
    if shards > _MOST_SLICES:
        return wanted  # fewer slices than shards: whole shards are dealt to each
    return min(-(-wanted // shards), _MOST_SLICES // shards) * shards


class _Reading:
    """What the readers of one snapshot share: the queue of slices, the rows so far, the size of pages."""

    def __init__(self, total: int, slices: int, limit: int | None) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._slices = slices
        self._left = deque(range(slices))
        self._unfinished = slices
        self._rows = 0
        self._limited = limit is not None
        self._row_bytes = 0.0

    def next_slice(self) -> int | None:
        with self._lock:
            return self._left.popleft() if self._left else None

    def slice_of(self, number: int) -> dict[str, int] | None:
        return {"id": number, "max": self._slices} if self._slices > 1 else None

    def page_size(self, page_bytes: int) -> int:
        """Return how many rows to ask for; 0 when a limit has been reached."""
        with self._lock:
            wanted = int(page_bytes / self._row_bytes) if self._row_bytes else _FIRST_SIZE
            size = max(1, min(_MOST_ROWS, wanted))
            return min(size, self._total - self._rows) if self._limited else size

    def took(self, page: Page) -> None:
        with self._lock:
            self._rows += len(page.documents)
            self._row_bytes = page.size / len(page.documents)

    def slice_finished(self) -> None:
        """Count a slice as read. The last one knows whether anything is missing."""
        with self._lock:
            self._unfinished -= 1
            if not self._unfinished and self._rows != self._total:
                raise IncompleteError(f"{self._rows} rows were read where the snapshot holds {self._total}.")
