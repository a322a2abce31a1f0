"""How the service connects: lazily, with explicit transactions, one clock, and retries of what passes by itself."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import psycopg
import pytest
import time_machine
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session

from tasks_service.database import engine
from tasks_service.database.engine import Database, passes_by_itself
from tasks_service.errors import ConfigurationError, DatabaseUnavailableError
from tests.databases import connect


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = connect(f"sqlite:///{tmp_path}/x.db")
    with made.write() as session:
        session.connection().execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


def numbers(database: Database) -> list[int]:
    with database.read() as session:
        return [row[0] for row in session.connection().execute(text("SELECT n FROM t ORDER BY n"))]


def add(session: Session, number: int) -> None:
    session.connection().execute(text("INSERT INTO t VALUES (:n)"), {"n": number})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://u@h:port/d", "not a URL"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_what_can(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        connect(url)
    assert "sqlite:///PATH" in caught.value.detail


def test_postgresql_is_spoken_to_by_psycopg_3() -> None:
    database = connect("postgresql+psycopg://u:p@h/d")
    assert database.dialect == "postgresql"
    assert database.path is None
    assert database.engine.dialect.driver == "psycopg"
    database.dispose()


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/x.db")
    assert list(tmp_path.iterdir()) == []
    assert database.path == tmp_path / "x.db"


def test_sqlite_is_set_up_for_several_processes(database: Database) -> None:
    with database.read() as session:
        found = {
            name: session.connection().execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 20000, "foreign_keys": 1, "synchronous": 2}


def test_a_write_is_kept_whole_or_not_at_all(database: Database) -> None:
    with database.write() as session:
        add(session, 1)
    with suppress(RuntimeError), database.write() as session:
        add(session, 2)
        raise RuntimeError
    with suppress(IntegrityError), database.write() as session:
        add(session, 3)
        add(session, 1)
    with database.read() as session:
        add(session, 4)
    assert numbers(database) == [1]


def test_a_writer_holds_the_lock_from_its_start(database: Database) -> None:
    """Two that read and then write wait for each other; begun without the lock, the second would be refused."""

    def next_number(_: int) -> None:
        with database.write() as session:
            highest = session.connection().execute(text("SELECT coalesce(max(n), 0) FROM t")).scalar_one()
            add(session, highest + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(next_number, range(60)))
    assert numbers(database) == list(range(1, 61))


def test_a_reader_does_not_wait_for_a_writer_and_sees_one_state(database: Database) -> None:
    with database.write() as writer:
        add(writer, 1)
        assert numbers(database) == []
    with database.read() as reader:
        assert reader.connection().execute(text("SELECT count(*) FROM t")).scalar_one() == 1
        with database.write() as writer:
            add(writer, 2)
        assert reader.connection().execute(text("SELECT count(*) FROM t")).scalar_one() == 1


@pytest.fixture
def impatient(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The same database through connections that wait for no lock."""
    monkeypatch.setattr(engine, "_SQLITE_SESSION", ("PRAGMA busy_timeout = 1",))
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.001)
    database.dispose()
    return database


def test_a_busy_database_is_tried_again_until_it_is_free(impatient: Database) -> None:
    held, let_go, tries = Event(), Event(), 0

    def hold() -> None:
        with impatient.write() as session:
            add(session, 1)
            held.set()
            let_go.wait(60)

    holder = Thread(target=hold)
    holder.start()
    assert held.wait(60)
    with pytest.raises(DatabaseUnavailableError):
        impatient.retrying(lambda session: add(session, 2), within_seconds=0)

    class Counting(Database):
        def write(self):  # type: ignore[no-untyped-def] # noqa: ANN202
            nonlocal tries
            tries += 1
            if tries == 3:
                let_go.set()
                holder.join(60)
            return super().write()

    counting = Counting(impatient._settings)
    counting.retrying(lambda session: add(session, 3), within_seconds=60)
    assert tries >= 3
    assert numbers(impatient) == [1, 3]
    counting.dispose()


def test_what_does_not_pass_is_raised_at_once(database: Database) -> None:
    calls: list[int] = []

    def broken(session: Session) -> None:
        calls.append(1)
        session.connection().execute(text("SELECT * FROM none"))

    with pytest.raises(OperationalError):
        database.retrying(broken)
    assert calls == [1]


def test_a_missing_directory_is_a_database_that_does_not_answer(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/none/x.db")
    with pytest.raises(DatabaseUnavailableError), database.read() as session:
        database.now(session)


def _error(sqlstate: str | None, kind: type[psycopg.Error] = psycopg.OperationalError) -> OperationalError:
    original = kind("text of the server")
    original.sqlstate = sqlstate
    return OperationalError("SELECT 1", {}, original)


@pytest.mark.parametrize(
    ("sqlstate", "passes"),
    [
        ("40001", True),  # serialization_failure
        ("40P01", True),  # deadlock_detected
        ("55P03", True),  # lock_not_available
        ("57P01", True),  # admin_shutdown
        ("57P03", True),  # cannot_connect_now
        ("57014", True),  # query_canceled, by statement_timeout
        ("53300", True),  # too_many_connections
        ("08006", True),  # connection_failure
        ("25P03", True),  # idle_in_transaction_session_timeout
        ("25006", True),  # read_only_sql_transaction
        (None, True),  # the client's own: the connection broke
        ("23505", False),  # unique_violation
        ("42P01", False),  # undefined_table
        ("28P01", False),  # invalid_password
        ("3D000", False),  # invalid_catalog_name
    ],
)
def test_which_errors_of_postgresql_pass_by_themselves(sqlstate: str | None, *, passes: bool) -> None:
    assert passes_by_itself(_error(sqlstate)) is passes


def test_which_errors_of_sqlite_pass_by_themselves() -> None:
    def error(code: int) -> OperationalError:
        original = sqlite3.OperationalError("database is locked")
        original.sqlite_errorcode = code
        return OperationalError("SELECT 1", {}, original)

    assert passes_by_itself(error(sqlite3.SQLITE_BUSY))
    assert passes_by_itself(error(sqlite3.SQLITE_BUSY_SNAPSHOT))
    assert not passes_by_itself(error(sqlite3.SQLITE_ERROR))
    assert not passes_by_itself(OperationalError("SELECT 1", {}, ValueError()))


def test_the_clock_is_the_databases_and_not_pythons(database: Database) -> None:
    before = datetime.now(UTC)
    with time_machine.travel(datetime(1999, 1, 1, tzinfo=UTC)), database.read() as session:
        now = database.now(session)
    assert before - timedelta(seconds=1) < now < before + timedelta(minutes=5)
    database.clock_offset = timedelta(days=1)
    with database.read() as session:
        assert database.now(session) - now >= timedelta(days=1)


def test_a_forked_process_opens_connections_of_its_own(database: Database) -> None:
    with database.write() as session:
        add(session, 1)
    inherited = database.engine
    database._process = os.getpid() + 1  # as a child sees it
    assert database.engine is not inherited
    assert numbers(database) == [1]
    inherited.dispose()


def test_a_disposed_database_can_be_used_again(database: Database) -> None:
    database.dispose()
    assert numbers(database) == []
