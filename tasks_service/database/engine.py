"""Sessions over the service's database, its one clock, and what to do when it does not answer.

What lives here: how SQLite and PostgreSQL are connected to, so that everything above is the same on both:
explicit transactions, write transactions that take SQLite's write lock at their start, the database's
clock, and retries of what passes by itself. What does not: any statement over the tables. Every other
module of database/ is handed the sessions made here; app.py builds one `Database` a process.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy import create_engine as create_sqlalchemy_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session

from tasks_service import metrics
from tasks_service.config import DatabaseSettings
from tasks_service.database.counting import count_committed
from tasks_service.errors import ConfigurationError, DatabaseUnavailableError

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")

BUSY_SECONDS = 20.0
RETRY_SECONDS = 30.0
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 1.0
_SQLITE_SESSION = (
    f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}",
    "PRAGMA foreign_keys = ON",
    # A task that was answered 201 survives a power cut; that costs a third of a millisecond a commit.
    "PRAGMA synchronous = FULL",
)
_POSTGRESQL_CLOCK = text("SELECT clock_timestamp()")
_SQLITE_CLOCK = text("SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')")


class Database:
    """The service's database. Connects at first use, never before a fork; safe to share between threads.

    Attributes:
        clock_offset: added to the database's clock by `now`; zero but in tests, where it makes hours pass
        in seconds.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        """Take the settings; raise ConfigurationError where the URL is none of a database that can be used."""
        self._settings = settings
        self._url = _url(settings.url.get_secret_value())
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._process = 0
        self.clock_offset = timedelta(0)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._url.get_backend_name()

    @property
    def path(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return Path(str(self._url.database)) if self.dialect == "sqlite" else None

    @property
    def engine(self) -> Engine:
        """The engine of this process.

        Made at first use, and again in a child that inherited one by a fork.
        """
        with self._lock:
            if self._engine is None or self._process != os.getpid():
                if self._engine is not None:
                    self._engine.dispose(close=False)  # the connections are the parent's
                self._engine = _engine(self._url, self._settings.pool_size)
                self._process = os.getpid()
            return self._engine

    @contextmanager
    def write(self) -> Generator[Session]:
        """Open a session for one short writing transaction.

        It is committed at the end, and rolled back on any exception.

        On SQLite it holds the write lock from its start (`BEGIN IMMEDIATE`): a transaction that only became
        a writer later would be refused at once instead of waiting. Objects stay readable after the end.

        Raises:
            DatabaseUnavailableError: the database did not answer, or was busy for too long.
        """
        with _translated(), Session(self._bound("IMMEDIATE"), expire_on_commit=False) as session:
            with session.begin():
                yield session
            count_committed(session)

    @contextmanager
    def read(self) -> Generator[Session]:
        """Open a session for reading; nothing is committed.

        Raises:
            DatabaseUnavailableError: the database did not answer.
        """
        with _translated(), Session(self._bound("DEFERRED"), expire_on_commit=False) as session:
            yield session

    def retrying(self, fn: Callable[[Session], T], *, within_seconds: float = RETRY_SECONDS) -> T:
        """Run `fn` in `write()`, and again for a while where the database failed in a way that passes.

        `fn` may run although an earlier run of it was committed (the connection broke before the answer
        came), so it must bear that: the functions of claims.py do, an insert under a generated key does
        not.

        Raises:
            DatabaseUnavailableError: it still failed after `within_seconds`.
        """
        deadline = monotonic() + within_seconds
        delay = _FIRST_DELAY
        while True:
            try:
                with self.write() as session:
                    return fn(session)
            except DatabaseUnavailableError as error:
                pause = random.uniform(delay / 2, delay)  # noqa: S311 -- spreads retries, guards nothing
                if monotonic() + pause > deadline:
                    raise
                log.warning("database.retrying", detail=error.detail, seconds=round(pause, 3))
                metrics.DATABASE_RETRIES.count()
            threading.Event().wait(pause)
            delay = min(delay * 2, _LONGEST_DELAY)

    def now(self, session: Session) -> datetime:
        """Return the database's clock: the only one that decides what is due and what is leased."""
        # now() would be the transaction's start, which may lie before a long wait for a lock.
        clock = _POSTGRESQL_CLOCK if self.dialect == "postgresql" else _SQLITE_CLOCK
        moment: datetime | str = session.connection().execute(clock).scalar_one()
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        return moment.astimezone(UTC) + self.clock_offset

    def connection_parameters(self) -> dict[str, Any]:
        """Return how psycopg connects to this PostgreSQL, for a connection outside the engine's pool."""
        from tasks_service.database import postgresql

        _, parameters = self.engine.dialect.create_connect_args(self._url)
        parameters.pop("context", None)  # SQLAlchemy's own adapters, which are no parameter of a connection
        return {**postgresql.CONNECT, **parameters}

    def dispose(self) -> None:
        """Close every connection; the next use opens new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose(close=self._process == os.getpid())
                self._engine = None

    def _bound(self, begin: str) -> Engine:
        return self.engine.execution_options(tasks_begin=begin)


@contextmanager
def _translated() -> Generator[None]:
    """Turn what a database raises when it is away or busy into DatabaseUnavailableError.

    Let the rest through.
    """
    begun = monotonic()
    try:
        yield
    except PoolTimeoutError as exc:
        metrics.DATABASE_UNAVAILABLE.count(monotonic() - begun)
        raise DatabaseUnavailableError("Every database connection of this process is in use.") from exc
    except DBAPIError as exc:
        if not passes_by_itself(exc):
            raise
        metrics.DATABASE_UNAVAILABLE.count(monotonic() - begun)
        raise DatabaseUnavailableError from exc


def passes_by_itself(error: DBAPIError) -> bool:
    """Tell whether the same transaction may well succeed if it is run again."""
    if error.connection_invalidated:
        return True
    original = error.orig
    if isinstance(original, sqlite3.OperationalError):
        # The low byte is the primary code: extended codes such as SQLITE_BUSY_SNAPSHOT count as their family.
        code = getattr(original, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code in {
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
        }
    from tasks_service.database import postgresql

    return postgresql.passes(original)


def _url(given: str) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as exc:  # ValueError: a port that is no number
        raise ConfigurationError(
            "database.url is not a URL; write sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        ) from exc
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ConfigurationError("database.url must name a file: several processes share it; write sqlite:///PATH")
    return url


def _engine(url: URL, pool_size: int) -> Engine:
    if url.get_backend_name() == "postgresql":
        from tasks_service.database import postgresql

        engine = create_sqlalchemy_engine(
            url, pool_size=pool_size, pool_pre_ping=True, pool_timeout=10, connect_args=postgresql.CONNECT
        )
        event.listen(engine, "do_connect", postgresql.connect)
        event.listen(engine, "connect", postgresql.prepare)
        return engine
    engine = create_sqlalchemy_engine(url, pool_size=pool_size, pool_timeout=10, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite says how
    for statement in _SQLITE_SESSION:
        connection.execute(statement)
    # Kept in the file, so this writes but once; readers then never wait for the writer, nor it for them.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("tasks_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {begin}")
