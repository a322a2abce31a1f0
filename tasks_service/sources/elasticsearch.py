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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import structlog

from segments import Catalog, SortKey, Tree, sort_clauses, to_elasticsearch, with_keys
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import IncompleteError, ServiceError, SnapshotLostError
from tasks_service.sources import Division, Documents, Sample, Share, Snapshot
from tasks_service.sources.catalogs import CatalogCache, still_fits
from tasks_service.sources.elasticsearch_calls import Call, Calls, index_path
from tasks_service.sources.elasticsearch_catalog import SETTINGS, read_catalog
from tasks_service.sources.elasticsearch_links import (
    LinkedKeys,
    Place,
    Question,
    check_apart,
    refuse_left_out,
    stand_in,
)
from tasks_service.sources.elasticsearch_pages import Counted, Keys, Page, SortValues, read_count, read_page
from tasks_service.sources.elasticsearch_reading import Reading
from tasks_service.sources.elasticsearch_shares import PinnedView, dealt, share_slices, slice_count
from tasks_service.sources.links import Catalogs, Links, chain_filter, chained

log = structlog.stdlib.get_logger(__name__)

_SEARCH = "/_search?allow_partial_search_results=false"
_CHECK_SECONDS = 5.0

T = TypeVar("T", Counted, Keys)


class ElasticsearchSource:
    """One cluster. Safe to share between threads; connects with the first call."""

    def __init__(
        self,
        settings: ElasticsearchSettings,
        catalog_seconds: float,
        *,
        links: Links | None = None,
        clock: Callable[[], float] = time.monotonic,
        calls: Calls | None = None,
    ) -> None:
        """Take the settings, how long a catalogue is believed, and the indices that groups may be about."""
        self._settings = settings
        self._links = links or Links()
        self._calls = calls or Calls(settings)
        self._catalogs = CatalogCache(catalog_seconds, clock)
        self._closing = threading.Event()

    def catalog(self, index: IndexSettings) -> Catalog:
        """Return the fields of an index or alias. Raises SourceError, SourceUnavailableError."""
        return self._catalogs.fresh(index.source) or self._place(index).catalog

    def catalogs(self) -> Mapping[str, Catalog]:
        """Return the catalogues of the configured indices by name, each read when it is asked for."""
        return Catalogs(self._links, self.catalog)

    def _place(self, index: IndexSettings) -> Place:
        mappings = self._json(Call("mapping", "GET", index_path(index.source, "/_mapping")))
        path = index_path(index.source, f"/_settings/{SETTINGS}?flat_settings=true&include_defaults=true")
        # Reading settings takes a privilege that reading documents does not; without it the mapping has to do.
        settings = self._json(Call("settings", "GET", path, tolerated=(403,)))
        catalog = read_catalog(mappings, None if "error" in settings else settings)
        return Place(index, self._catalogs.keep(index.source, catalog), tuple(mappings))

    def _json(self, call: Call) -> dict[str, Any]:
        return self._calls.send(call, lambda _status, body: msgspec.json.decode(body, type=dict[str, Any]), self._pause)

    def _pause(self, seconds: float) -> bool:
        return self._closing.wait(seconds)

    @contextmanager
    def open(
        self, index: IndexSettings, tree: Tree, *, chain: int, limit: int | None, sort: Sequence[SortKey] = ()
    ) -> Generator[Snapshot]:
        """Open a point-in-time over every index the tree speaks of, and count the chain's matching documents in it."""
        others = self._links.of(tree)
        indices = {one.source: one for one in (*others.values(), index)}
        before = {source: self._catalogs.last(source) for source in indices}
        for one in indices.values():
            self._refresh(one)
        taken_at = datetime.now(UTC)
        path = index_path(",".join(indices), f"/_pit?keep_alive={self._settings.keep_alive_seconds}s")
        opened = self._json(Call("open", "POST", path))
        shards = opened.get("_shards", {}).get("total")
        snapshot = ElasticsearchSnapshot(self._calls, self._settings, str(opened["id"]), taken_at, limit, shards)
        try:
            found = {source: self._place(one) for source, one in indices.items()}
            for source, old in before.items():
                if old is not None and not still_fits(old, found[source].catalog):
                    raise SnapshotLostError("The fields of the index changed just now; the export starts over.")
            places = {name: replace(found[one.source], index=one) for name, one in others.items()}
            snapshot.count(replace(found[index.source], index=index), places, tree, chain, self._links)
            snapshot.sort_by(sort)
            yield snapshot
        finally:
            snapshot.end()

    @contextmanager
    def resume(self, handle: dict[str, Any]) -> Generator[Snapshot]:
        """Read on in a point-in-time that was divided; nothing is asked before the first page."""
        view = PinnedView.read(handle)
        snapshot = ElasticsearchSnapshot(self._calls, self._settings, view.pit_id, view.taken_at, None, view.shards)
        snapshot.take_up(view)
        try:
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
        if self._links.of(tree):
            with self.open(index, tree, chain=chain, limit=None) as snapshot:
                assert isinstance(snapshot, ElasticsearchSnapshot)  # noqa: S101 -- open() yields no other
                return Sample(snapshot.total, [json.loads(one) for one in snapshot.first(rows)], snapshot.query)
        place = Place(index, self.catalog(index), ())
        asked = Question.of(place, chained(chain_filter(index, place.catalog, chain), tree, {}), chain, among=False)
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


class ElasticsearchSnapshot:
    """One point-in-time, and the documents in it that match."""

    def __init__(
        self,
        calls: Calls,
        settings: ElasticsearchSettings,
        pit_id: str,
        taken_at: datetime,
        limit: int | None,
        shards: int | None,
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
        self._shards = shards
        self._question: dict[str, Any] = {}
        self._sort: list[Any] = ["_doc"]
        self._descending: tuple[bool, ...] = ()
        self._keep_alive = f"{settings.keep_alive_seconds}s"
        self._kept = False
        self._ended = threading.Event()

    def take_up(self, view: PinnedView) -> None:
        """Be the view that another process has counted and divided."""
        self.total, self.query, self.catalog = view.total, view.query, view.catalog
        self._question = view.question
        self._kept = True

    def count(self, place: Place, others: dict[str, Place], tree: Tree, chain: int, links: Links) -> None:
        """Count exactly, with the keys of linked groups looked up before."""
        own = {name: chain_filter(one.index, one.catalog, chain) for name, one in others.items()}
        whole = chained(chain_filter(place.index, place.catalog, chain), tree, own)
        if others:
            check_apart([place, *others.values()], self)
        keys = LinkedKeys(self, links, others, chain)
        asked = Question.of(place, with_keys(whole, keys.select), chain, among=bool(others))
        asked.refuse_doubts(lambda doubtful: self.counted(doubtful).total)
        counted = self.counted(asked.query)
        self.catalog = place.catalog
        self.query = to_elasticsearch(whole, stand_in) if others else asked.query
        self._question = asked.query
        self.total = counted.total if self._limit is None else min(counted.total, self._limit)

    def sort_by(self, keys: Sequence[SortKey]) -> None:
        """Read in the order of the keys from now on, once everything is counted; without keys in the index's own.

        Raises SourceError where some document has a value that it cannot be sorted by.
        """
        if not keys:
            return
        for key in keys:
            refuse_left_out(
                key.field,
                self._question,
                lambda query: self.counted(query).total,
                "rows cannot be sorted by it",
            )
        clauses = sort_clauses(keys)
        self._sort = [clause for clause, _ in clauses]
        self._descending = tuple(descending for _, descending in clauses)

    def counted(self, query: dict[str, Any], part: dict[str, int] | None = None) -> Counted:
        """Count exactly, and learn with the first count how many shards every page has to come from."""
        body: dict[str, Any] = {"size": 0, "track_total_hits": True, "query": query}
        if part is not None:
            body["slice"] = part
        counted = self._search("count", body, lambda answer: read_count(answer, shards=self._shards))
        self._shards = counted.shards
        return counted

    def keys(self, body: dict[str, Any], read: Callable[[bytes, int | None], Keys]) -> Keys:
        """Send one search for a page of keys."""
        return self._search("keys", body, lambda answer: read(answer, self._shards))

    def first(self, rows: int) -> Documents:
        """Return the first documents."""
        body = {"size": rows, "track_total_hits": True, "query": self._question, "sort": ["_doc"]}
        return self._search("sample", body, lambda answer: read_count(answer, shards=self._shards)).documents

    def _search(self, what: str, body: dict[str, Any], read: Callable[[bytes], T]) -> T:
        call = Call(what, "POST", _SEARCH, {**body, "pit": self._pit(self._pit_id)}, pinned=True)
        answer = self._calls.send(call, lambda _status, answer: read(answer), self._ended.wait)
        self._pit_id = answer.pit_id or self._pit_id
        return answer

    def _pit(self, pit_id: str) -> dict[str, str]:
        return {"id": pit_id, "keep_alive": self._keep_alive}

    def divide(self, most: int, readers: int) -> Division | None:
        """Count every slice; with a limit or sorted, which is one stretch of one order, there is nothing to divide.

        Raises IncompleteError where the slices do not hold the total, all together.
        """
        if self._in_one_stretch or not self.total:
            return None
        slices = share_slices(most, self._shards or 1, readers)
        self._kept = True
        counts = [
            self.counted(self._question, {"id": number, "max": slices} if slices > 1 else None).total
            for number in range(slices)
        ]
        if sum(counts) != self.total:
            raise IncompleteError(f"{sum(counts)} rows are in the slices where the snapshot holds {self.total}.")
        view = PinnedView(
            pit_id=self._pit_id,
            shards=self._shards,
            taken_at=self.taken_at,
            total=self.total,
            query=self.query,
            question=self._question,
            catalog=self.catalog,
        )
        return Division(view.written(), dealt(counts, most))

    def renew(self) -> None:
        """Count everything on every shard, which each of them knows without looking."""
        self.counted({"match_all": {}})

    def release(self) -> None:
        """Have `end` close the point-in-time."""
        self._kept = False

    def partitions(self, wanted: int, share: Share | None = None) -> Sequence[Iterator[Documents]]:
        """Return iterators that take slices from one queue; with a limit or sorted there is one."""
        readers = max(1, min(wanted, self._settings.slices))
        if share is None:
            of = 1 if self._in_one_stretch else slice_count(self.total, self._shards or 1, readers)
            share = Share(tuple(range(of)), of, self.total)
        # Sorted rows have one reader, whose pages may weigh what those of all readers may.
        page_bytes = self._settings.page_bytes * (readers if self._descending else 1)
        reading = Reading(share, self._limit, page_bytes)
        return [self._pages(reading) for _ in range(min(readers, len(share.slices)))]

    @property
    def _in_one_stretch(self) -> bool:
        return self._limit is not None or bool(self._descending)

    def _pages(self, reading: Reading) -> Iterator[Documents]:
        while (number := reading.next_slice()) is not None:
            yield from self._slice(number, reading)
            reading.slice_finished()

    def _slice(self, number: int, reading: Reading) -> Iterator[Documents]:
        pit_id, after = self._pit_id, None
        while size := reading.page_size():
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
            "sort": self._sort,
            "query": self._question,
            "pit": self._pit(pit_id),
        }
        if after is not None:
            body["search_after"] = after
        if part is not None:
            body["slice"] = part
        return self._calls.send(
            Call("page", "POST", _SEARCH, body, pinned=True),
            lambda _status, answer: read_page(
                answer, shards=self._shards, size=size, after=after, descending=self._descending
            ),
            self._ended.wait,
        )

    def end(self) -> None:
        """Close the point-in-time; one that expired already is no harm, and one that stays expires by itself."""
        self._ended.set()
        if self._kept:
            return
        call = Call("close", "DELETE", "/_pit", {"id": self._pit_id}, tolerated=(404,), attempts=1)
        try:
            self._calls.send(call, lambda status, _body: status, lambda _seconds: True)
        except ServiceError as error:
            log.warning("source.snapshot_left", code=error.code)
