"""The embedded source: documents in Parquet, JSON lines or CSV files, read by DuckDB.

What lives here is the catalogue, the snapshot and its reading; which files there are is files_folder.py's, what they
hold files_kinds.py's. Every snapshot has an in-memory DuckDB of its own over the files as they were when it opened.
Called through the port in sources/__init__.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from segments import Catalog, SortKey, Tree, linked, sort_sql, to_sql
from tasks_service.config import FilesSettings, IndexSettings
from tasks_service.errors import SnapshotLostError, SourceError, SourceUnavailableError
from tasks_service.sources import Documents, Sample, Share, Snapshot
from tasks_service.sources.catalogs import still_fits
from tasks_service.sources.files_folder import Identity, OpenFolder, open_folder
from tasks_service.sources.files_kinds import read_relation
from tasks_service.sources.files_relation import Relation, fit_memory, quoted
from tasks_service.sources.files_sorting import FIRST_ROWS, SortedDocuments, rows_that_fit, sorting_folder
from tasks_service.sources.links import Catalogs, Links, chain_filter, chained

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COLLECTED_ROWS = 10_000
"""Up to so many rows of a limit DuckDB collects from all its threads at once, each of which decompresses a row group of
its own; a greater one streams. One thread holds one."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found in one version of the files, and when it was last seen to be theirs."""

    identities: tuple[Identity, ...]
    relation: Relation
    catalog: Catalog
    seen: float


class FilesSource:
    """Documents in files. Safe to share between threads; nothing is opened before it is asked for."""

    def __init__(
        self,
        settings: FilesSettings,
        catalog_seconds: float,
        *,
        links: Links | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the settings, how long a catalogue is believed, and the indices that groups may be about."""
        self._settings = settings
        self._links = links or Links()
        self._catalog_seconds = catalog_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def catalog(self, index: IndexSettings) -> Catalog:
        """Return the fields of an index. Raises SourceError."""
        with self._lock:
            known = self._known.get(index.source)
        if known is not None and self._clock() - known.seen < self._catalog_seconds:
            return known.catalog
        with closing(open_folder(self._settings.directory, index.source)) as folder:
            return self._know(index, folder, None).catalog

    def catalogs(self) -> Mapping[str, Catalog]:
        """Return the catalogues of the configured indices by name, each read when it is asked for."""
        return Catalogs(self._links, self.catalog)

    def _know(self, index: IndexSettings, folder: OpenFolder, connection: DuckDBPyConnection | None) -> _Known:
        """Return what the open files hold, from memory where they are the version that is known."""
        with self._lock:
            known = self._known.get(index.source)
        if known is None or known.identities != folder.identities:
            with _translated(folder), _maybe_connected(self._settings, connection) as usable:
                relation = read_relation(usable, folder, dict(index.types))
            known = _Known(folder.identities, relation, _catalog(relation, index), 0)
        known = _Known(known.identities, known.relation, known.catalog, self._clock())
        with self._lock:
            self._known[index.source] = known
        return known

    @contextmanager
    def open(
        self, index: IndexSettings, tree: Tree, *, chain: int, limit: int | None, sort: Sequence[SortKey] = ()
    ) -> Generator[Snapshot]:
        """Open the version of the files that is there now, and count the chain's matching documents in it."""
        others = self._links.of(tree)
        with self._lock:
            before = dict(self._known)
        with (
            closing(open_folder(self._settings.directory, index.source)) as folder,
            ExitStack() as sorting,
            closing(_connect(self._settings)) as connection,
        ):
            folders = self._open_beside(folder, index, others)
            known = {one.source: self._know(one, folders[one.source], connection) for one in (*others.values(), index)}
            for source, now in known.items():
                if source in before and not still_fits(before[source].catalog, now.catalog):
                    raise SnapshotLostError("The fields of the index changed just now; the export starts over.")
            fit_memory(connection, max(one.relation.thread_bytes for one in known.values()))
            mine = known[index.source]
            own = {name: chain_filter(one, known[one.source].catalog, chain) for name, one in others.items()}
            whole = chained(chain_filter(index, mine.catalog, chain), tree, own)
            filtered = to_sql(whole)
            with _translated(folder):
                for name, one in others.items():
                    relation = known[one.source].relation.over(folders[one.source], filtered[0])
                    connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT * FROM {relation}")  # noqa: S608 -- names
                self._check_limits(connection, whole)
                snapshot = FilesSnapshot(folder, connection, mine, filtered, limit)
                if sort:
                    snapshot.sort_by(sort, sorting.enter_context(sorting_folder(self._settings.temp_directory)))
            try:
                yield snapshot
            finally:
                snapshot.end()

    def _open_beside(
        self, folder: OpenFolder, index: IndexSettings, others: Mapping[str, IndexSettings]
    ) -> dict[str, OpenFolder]:
        """Return the open folders by source: that of the index, and those of the linked indices beside it."""
        folders = {index.source: folder}
        for one in others.values():
            if one.source not in folders:
                folders[one.source] = open_folder(self._settings.directory, one.source)
                folder.beside(folders[one.source])
        return folders

    def _check_limits(self, connection: DuckDBPyConnection, tree: Tree) -> None:
        """Raise LinkLimitError where a linked group selects more documents than it may; a join itself needs no limit.

        The same segment is to be lawful whichever source holds the documents.
        """
        for group in linked(tree):
            where, parameters = to_sql(group.part)
            count = f"SELECT count(*) FROM {quoted(group.index)} WHERE {where}"  # noqa: S608 -- identifiers, parameters
            row = connection.execute(count, parameters).fetchone()
            self._links.check(group, int(row[0]) if row else 0)

    def resume(self, handle: dict[str, Any]) -> AbstractContextManager[Snapshot]:  # noqa: ARG002 -- the port's
        """Raise SnapshotLostError: no view of files outlives the process that opened it."""
        raise SnapshotLostError("Documents are read from files now, not where the export began; it starts over.")

    def sample(self, index: IndexSettings, tree: Tree, *, chain: int, rows: int) -> Sample:
        """Count the chain's matching documents exactly and return the first `rows` of them."""
        with self.open(index, tree, chain=chain, limit=None) as snapshot:
            assert isinstance(snapshot, FilesSnapshot)  # noqa: S101 -- open() yields no other
            return Sample(snapshot.total, [json.loads(one) for one in snapshot.first(rows)], snapshot.query)

    def check(self) -> None:
        """Raise SourceError where the folder of documents cannot be read."""
        directory = self._settings.directory
        if not directory.is_dir():
            raise SourceError("files.directory is not a folder; create it or set another one.")

    def close(self) -> None:
        """Forget the catalogues; nothing stays open between snapshots."""
        with self._lock:
            self._known.clear()


class FilesSnapshot:
    """One version of the files, and the documents in it that match."""

    def __init__(
        self,
        folder: OpenFolder,
        connection: DuckDBPyConnection,
        known: _Known,
        filtered: tuple[str, list[Any]],
        limit: int | None,
    ) -> None:
        """Count what matches. Raises duckdb.Error."""
        where, parameters = filtered
        relation = known.relation
        self.catalog = known.catalog
        self.taken_at = datetime.now(UTC)
        self.query: dict[str, Any] = {"sql": where, "parameters": [_shown(one) for one in parameters]}
        self._folder = folder
        self._connection = connection
        self._parameters = parameters
        self._relation = relation
        self._where = where
        self._document = f"encode({relation.document})"
        row = connection.execute(f"SELECT count(*) {self._from()}", parameters).fetchone()
        folder.check_unchanged()
        count = int(row[0]) if row else 0
        self.total = count if limit is None else min(count, limit)
        self._stream = _Stream(lambda: self._select(self.total), folder)
        self._sorted: Iterator[Documents] | None = None

    def _from(self, selected: str = "") -> str:
        return f"FROM {self._relation.over(self._folder, self._where, selected)} WHERE {self._where}"

    def sort_by(self, keys: Sequence[SortKey], folder: Path) -> None:
        """Read in the order of the keys, with an empty folder for what that takes."""
        order = sort_sql(keys)
        statement = f"SELECT {self._document}, {order} {self._from(order)}"
        self._sorted = SortedDocuments(self._connection, folder, self.total).pages(statement, self._parameters)

    def _select(self, limit: int) -> DuckDBPyConnection:
        """Return a cursor from which documents stream. Identifiers are the catalogue's, values are parameters."""
        statement = f"SELECT {self._document} {self._from()} LIMIT {limit}"
        cursor = self._connection.cursor()
        if limit:
            if limit <= _COLLECTED_ROWS:
                cursor.execute("SET threads = 1")
            cursor.execute(statement, self._parameters)
        else:
            cursor.execute("SELECT 1 WHERE false")
        return cursor

    def partitions(self, wanted: int, share: Share | None = None) -> Sequence[Iterator[Documents]]:  # noqa: ARG002 -- never divided
        """Return iterators that take pages in turn from one stream: DuckDB itself reads in parallel."""
        if self._sorted is not None:
            return [self._in_order(self._sorted)]
        return [self._stream.pages() for _ in range(max(wanted, 1))]

    def _in_order(self, pages: Iterator[Documents]) -> Iterator[Documents]:
        with _translated(self._folder):
            yield from pages
        self._folder.check_unchanged()

    def divide(self, most: int, readers: int) -> None:
        """Return None: the view is files that this process holds open, and whoever opens them next may find others."""

    def renew(self) -> None:
        """Do nothing: the files are held as long as the context lasts."""

    def release(self) -> None:
        """Do nothing: the context's end closes the files."""

    def first(self, rows: int) -> Documents:
        """Return the first documents."""
        with _translated(self._folder):
            return [row[0] for row in self._select(min(rows, self.total)).fetchall()]

    def end(self) -> None:
        """Stop reading."""
        self._stream.end()


class _Stream:
    """One streaming result that several threads take pages from, begun when the first of them does."""

    def __init__(self, begin: Callable[[], DuckDBPyConnection], folder: OpenFolder) -> None:
        self._begin = begin
        self._cursor: DuckDBPyConnection | None = None
        self._folder = folder
        self._lock = threading.Lock()
        self._rows = FIRST_ROWS
        self._finished = False
        self._error: BaseException | None = None

    def pages(self) -> Iterator[Documents]:
        while page := self._next():
            yield page

    def _next(self) -> Documents:
        with self._lock:
            if self._error is not None:
                raise SourceUnavailableError("Another reader of these files failed.") from self._error
            if self._finished:
                return []
            try:
                return self._fetch()
            except BaseException as error:
                self._error = error
                raise

    def _fetch(self) -> Documents:
        with _translated(self._folder):
            cursor = self._cursor = self._cursor or self._begin()
            page: Documents = [row[0] for row in cursor.fetchmany(self._rows)]
        if page:
            self._rows = rows_that_fit(page)
        else:
            self._folder.check_unchanged()
            self._finished = True
        return page

    def end(self) -> None:
        with self._lock:
            self._finished = True
            if self._cursor is not None:
                self._cursor.close()


def _connect(settings: FilesSettings) -> DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": settings.threads, "memory_limit": settings.memory_limit})
    # Nothing is fetched from elsewhere, nothing is written (but by a sort: files_sorting.py), and paths of descriptors
    # are never remembered: the same path is another file in the next snapshot.
    connection.execute(
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false; SET temp_directory = ''; "
        "SET enable_external_file_cache = false; SET parquet_metadata_cache = false; SET TimeZone = 'UTC'"
    )
    return connection


@contextmanager
def _maybe_connected(settings: FilesSettings, connection: DuckDBPyConnection | None) -> Generator[DuckDBPyConnection]:
    if connection is not None:
        yield connection
        return
    with closing(_connect(settings)) as own:
        yield own


@contextmanager
def _translated(folder: OpenFolder) -> Generator[None]:
    """Turn what DuckDB raises into the service's errors."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as exc:
        raise SourceError("The documents need more memory than files.memory_limit allows; raise it.") from exc
    except duckdb.Error as exc:
        folder.check_unchanged()
        raise SourceError(
            "The files of the index cannot be read: one of them is damaged, or not of the kind its ending says."
        ) from exc


def _catalog(relation: Relation, index: IndexSettings) -> Catalog:
    try:
        return Catalog.from_columns(relation.columns, types={**dict(relation.types), **index.types})
    except ValueError as exc:
        raise SourceError(f"The fields of the index cannot be read: {exc}.") from exc


def _shown(parameter: object) -> object:
    if isinstance(parameter, list):
        return [_shown(one) for one in cast("list[object]", parameter)]
    return parameter if isinstance(parameter, (str, int, float, bool, type(None))) else str(parameter)
