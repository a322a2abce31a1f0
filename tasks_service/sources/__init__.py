"""The port of sources: where documents are read. Adapters: elasticsearch.py and files.py.

What lives here is the contract and nothing else. export.py opens a snapshot, reads it in partitions and closes it;
the API asks for catalogues and previews. The conformance suite in tests/contract runs over every adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from segments import Catalog, SortKey, Tree
from tasks_service.config import IndexSettings

Documents = list[bytes]
"""A page: raw JSON documents, one object each, as the source holds them (they may contain line breaks)."""


@dataclass(frozen=True)
class Sample:
    """A preview: the exact count, the first documents, and the compiled query as a JSON value."""

    count: int
    documents: list[dict[str, Any]]
    query: dict[str, Any]


@dataclass(frozen=True)
class Share:
    """A stretch of a divided view: `slices` of its `of` slices, which hold exactly so many documents together."""

    slices: tuple[int, ...]
    of: int
    documents: int


@dataclass(frozen=True)
class Division:
    """A view divided into shares, none of them empty; `handle` is a JSON value by which any process resumes it."""

    handle: dict[str, Any]
    shares: tuple[Share, ...]


class Snapshot(Protocol):
    """A frozen view of the documents of one chain that match one tree.

    `total` is exact and belongs to the same frozen view that the partitions read. `query` is the compiled query as a
    JSON value, for the record; `catalog` is the catalogue the view was opened with.
    """

    total: int
    taken_at: datetime
    query: dict[str, Any]
    catalog: Catalog

    def partitions(self, wanted: int, share: Share | None = None) -> Sequence[Iterator[Documents]]:
        """Divide the view, or one share of it, into about `wanted` iterators of pages, each for a thread of its own.

        Together they give every document exactly once. A page that may be short for any reason but the end raises
        SourceUnavailableError or SnapshotLostError; an iterator never just ends early.
        """
        ...

    def divide(self, most: int, readers: int) -> Division | None:
        """Divide the view into at most `most` shares, each worth `readers` partitions, and count each exactly.

        From then on the view outlives its context, so that others may read it, until it is released or is read no more
        for as long as it lives unread. None where only this process can read it.
        """
        ...

    def renew(self) -> None:
        """Have a divided view live on although nobody reads it just now. Raises SnapshotLostError where it is gone."""
        ...

    def release(self) -> None:
        """Let go of a divided view at the end of this context: nobody reads it any more."""
        ...


class Source(Protocol):
    """A place documents are read from. Safe to share between threads; connects lazily."""

    def catalog(self, index: IndexSettings) -> Catalog:
        """Return the fields of an index. Raises SourceError (no such index) or SourceUnavailableError."""
        ...

    def catalogs(self) -> Mapping[str, Catalog]:
        """Return the catalogues of the configured indices by name; each is read when it is asked for, as `catalog`."""
        ...

    def open(
        self, index: IndexSettings, tree: Tree, *, chain: int, limit: int | None, sort: Sequence[SortKey] = ()
    ) -> AbstractContextManager[Snapshot]:
        """Open a snapshot of the chain's documents that match; the chain filter is AND-ed here, outside the tree.

        Groups about other indices are answered from the same frozen view, from documents of the same chain; one that
        selects more of them than it may raises LinkLimitError.

        With a limit at most that many documents are in the view (and in `total`). With `sort`, keys of the index's
        catalogue, there is one partition and it gives the documents in that order: the first ones, where there is a
        limit. The context manager's end releases whatever the snapshot pins. Raises SourceError,
        SourceUnavailableError.
        """
        ...

    def resume(self, handle: dict[str, Any]) -> AbstractContextManager[Snapshot]:
        """Take up a divided view again, in any process. Raises SnapshotLostError, at the latest when it is read."""
        ...

    def sample(self, index: IndexSettings, tree: Tree, *, chain: int, rows: int) -> Sample:
        """Count the chain's matching documents exactly and return the first `rows` of them."""
        ...

    def check(self) -> None:
        """Answer quickly if the source can be used; raise SourceUnavailableError or SourceError otherwise."""
        ...

    def close(self) -> None:
        """Release connections. The source is not used afterwards."""
        ...
