"""The keys that linked groups select, read from the point-in-time that the export itself reads.

Elasticsearch joins nothing, so a linked group is answered in two steps: the keys of its documents are read page by page
(doc values only), then asked for in the main query. One point-in-time spans the indices, and every search of it names
the concrete indices it means. Called by elasticsearch.py; the pages come from there too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from segments import Catalog, Field, Linked, Scalar, Tree, doubts, to_elasticsearch
from tasks_service.config import IndexSettings
from tasks_service.errors import IncompleteError, SnapshotLostError, SourceError
from tasks_service.sources.elasticsearch_catalog import left_out
from tasks_service.sources.elasticsearch_pages import Counted, Keys, SortValues, read_keys
from tasks_service.sources.links import Links, chain_filter

Query = dict[str, Any]
_MOST_ROWS = 10_000  # index.max_result_window


@dataclass(frozen=True, slots=True)
class Place:
    """An export index as it is now: its settings, its fields, and the concrete indices behind its name."""

    index: IndexSettings
    catalog: Catalog
    concrete: tuple[str, ...]


class Pinned(Protocol):
    """What is needed of the snapshot that is being opened."""

    def counted(self, query: Query) -> Counted:
        """Count exactly."""
        ...

    def keys(self, body: Query, read: Callable[[bytes, int | None], Keys]) -> Keys:
        """Send one search for a page of keys; `read` gets the answer and how many shards it must come from."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one index of one chain: the compiled query, and the one for documents it could not judge."""

    query: Query
    doubtful: Query | None
    reasons: str

    @classmethod
    def of(cls, place: Place, tree: Tree, chain: int, *, among: bool) -> Question:
        """Compile a tree that has the chain filter already and no linked groups; `among` several indices, name them."""
        own = to_elasticsearch(chain_filter(place.index, place.catalog, chain))
        within = [{"terms": {"_index": list(place.concrete)}}] if among else []
        doubtful = doubts(tree)
        if doubtful is not None:
            doubtful = {"bool": {"filter": [*within, own, doubtful]}}
        query = to_elasticsearch(tree)
        query["bool"]["filter"][:0] = within
        return cls(query, doubtful, left_out(place.catalog, tree))

    def refuse_doubts(self, count: Callable[[Query], int]) -> None:
        """Refuse where some of the chain's documents hold values that the server did not index."""
        found = count(self.doubtful) if self.doubtful is not None else 0
        if found:
            raise SourceError(
                f"{found} documents hold values that Elasticsearch did not index, so that this segment cannot be "
                f"answered exactly: {self.reasons}."
            )


def check_apart(places: Sequence[Place], pinned: Pinned) -> None:
    """Refuse indices that share documents, and a point-in-time that holds others than those that are known.

    A name may have come to mean another index while the point-in-time was opened; then the export starts over.
    """
    by_source = {place.index.source: place.concrete for place in places}
    names = [name for concrete in by_source.values() for name in concrete]
    if len(set(names)) < len(names):
        raise SourceError("Two indices of this segment read the same documents; a linked group needs one of its own.")
    if pinned.counted({"bool": {"must_not": [{"terms": {"_index": names}}]}}).total:
        raise SnapshotLostError("An alias changed while the snapshot was opened; the export starts over.")


class LinkedKeys:
    """Answers linked groups of one chain from one point-in-time."""

    def __init__(self, pinned: Pinned, links: Links, places: dict[str, Place], chain: int) -> None:
        """Take the snapshot, the limit, and the linked indices by name."""
        self._pinned = pinned
        self._links = links
        self._places = places
        self._chain = chain

    def select(self, group: Linked) -> tuple[Scalar, ...]:
        """Return the keys a group selects, each once; its part has the chain filter and no group of its own.

        Raises LinkLimitError, SourceError, IncompleteError.
        """
        place = self._places[group.index]
        key = group.key
        if not isinstance(key, Field):
            raise TypeError("the tree is unchecked")
        question = Question.of(place, group.part, self._chain, among=True)
        question.refuse_doubts(self._count)
        total = self._count(question.query)
        self._links.check(group, total)
        refuse_left_out(key, question.query, self._count, "the documents linked to them cannot be found")
        return tuple(self._read(key.exact or key.query_name, question.query, total)) if total else ()

    def _count(self, query: Query) -> int:
        return self._pinned.counted(query).total

    def _read(self, name: str, query: Query, total: int) -> dict[Scalar, None]:
        keys: dict[Scalar, None] = {}
        rows, after = 0, None
        body: Query = {
            "size": _MOST_ROWS,
            "track_total_hits": False,
            "sort": ["_doc"],
            "query": query,
            "_source": False,
            "stored_fields": "_none_",
            "docvalue_fields": [name],
        }
        while True:
            page = self._page(body, after)
            keys.update(dict.fromkeys(page.keys))
            rows += page.rows
            if page.rows < _MOST_ROWS:
                break
            after = page.last
        if rows != total:
            raise IncompleteError(f"{rows} keys were read where the snapshot holds {total}.")
        return keys

    def _page(self, body: Query, after: SortValues | None) -> Keys:
        asked = body if after is None else {**body, "search_after": after}
        return self._pinned.keys(
            asked, lambda answer, shards: read_keys(answer, shards=shards, size=_MOST_ROWS, after=after)
        )


def refuse_left_out(field: Field, query: Query, count: Callable[[Query], int], consequence: str) -> None:
    """Refuse where some of the documents that a query selects hold a value of the field that was not indexed."""
    if not field.malformed and field.ignore_above is None:
        return
    ignored = {"term": {"_ignored": {"value": field.exact or field.query_name}}}
    found = count({"bool": {"filter": [query, ignored]}})
    if found:
        raise SourceError(
            f"{found} documents have a {field.name} that Elasticsearch did not index, so that {consequence}; "
            "map it without ignore_above and ignore_malformed."
        )


def stand_in(group: Linked) -> Query:
    """What the record of an export shows in the place of keys: the group they come from."""
    link, key = group.link, group.key
    shown = {"index": group.index, "key": key.name, "query": to_elasticsearch(group.part, stand_in)}
    return {"terms": {link.name: {"keys_of": shown}}}
