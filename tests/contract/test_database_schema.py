"""The tables are what the models say, by whichever way a database came to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from tasks_service.database import models, schema
from tasks_service.database.engine import Database
from tasks_service.errors import SchemaVersionError
from tests.databases import connect


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """A factory of databases without tables."""
    made: list[Database] = []

    def sqlite() -> Database:
        made.append(connect(f"sqlite:///{tmp_path}/new folder/{len(made)}.db"))
        return made[-1]

    def postgresql() -> Database:
        made.append(connect(request.getfixturevalue("postgresql_database")()))
        return made[-1]

    yield sqlite if request.param == "sqlite" else postgresql
    for one in made:
        one.dispose()


def definitions(database: Database) -> list[tuple[str, ...]]:
    """Every index with all its clauses, as the database itself tells."""
    query = {
        "sqlite": "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }[database.dialect]
    with database.read() as session:
        rows = session.connection().execute(text(query)).all()
    found = (tuple(" ".join(str(value).split()) for value in row) for row in rows)
    return sorted(row for row in found if "alembic" not in row[1])


def test_the_migrations_lead_to_the_models(make: Callable[[], Database]) -> None:
    migrated, created = make(), make()
    schema.upgrade(migrated)
    with migrated.read() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
    # Alembic does not compare the conditions of partial indexes.
    if created.path is not None:
        created.path.parent.mkdir(exist_ok=True)
    SQLModel.metadata.create_all(created.engine)
    assert definitions(migrated) == definitions(created) != []


def test_the_way_back_leads_to_nothing_and_the_way_forth_again(make: Callable[[], Database]) -> None:
    database = make()
    assert schema.current_revision(database) is None
    schema.upgrade(database)
    assert schema.current_revision(database) == schema.head_revision()
    before = definitions(database)
    schema.downgrade(database, "base")
    assert schema.current_revision(database) is None
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    schema.upgrade(database)
    assert definitions(database) == before


def test_looking_at_a_missing_file_does_not_make_it(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/none/tasks.db")
    assert schema.current_revision(database) is None
    with pytest.raises(SchemaVersionError, match="tasks-service db upgrade"):
        schema.require_current(database)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_schema_is_refused_with_what_to_do(make: Callable[[], Database]) -> None:
    database = make()
    with pytest.raises(SchemaVersionError, match="no tables yet; run `tasks-service db upgrade`"):
        schema.require_current(database)
    schema.upgrade(database)
    schema.require_current(database)
    with database.write() as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = 'zzzz'"))
    with pytest.raises(SchemaVersionError, match=r"zzzz.*newer"):
        schema.require_current(database)
    schema.require_current(database, or_newer=True)  # as a process that runs already while an upgrade is under way


def test_an_older_schema_is_refused_with_what_to_run(make: Callable[[], Database]) -> None:
    database = make()
    schema.upgrade(database)
    schema.downgrade(database, "0001")
    with pytest.raises(
        SchemaVersionError,
        match=f"is 0001, this version needs {schema.head_revision()}; run `tasks-service db upgrade`",
    ):
        schema.require_current(database)
    with pytest.raises(SchemaVersionError):
        schema.require_current(database, or_newer=True)


def test_several_upgrades_at_once_are_one(make: Callable[[], Database]) -> None:
    database = make()
    if database.path is not None:
        database.path.parent.mkdir(exist_ok=True)
    start = Barrier(4)

    def upgrade(_: int) -> None:
        start.wait(60)
        schema.upgrade(database)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, range(4)))
    schema.require_current(database)


def test_an_upgrade_that_fails_leaves_nothing(make: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    database = make()
    if database.path is not None:
        database.path.parent.mkdir(exist_ok=True)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_index", broken)
        with pytest.raises(RuntimeError):
            schema.upgrade(database)
    assert inspect(database.engine).get_table_names() == []


def test_every_instant_is_stored_by_one_type() -> None:
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            if column.name.endswith(("_at", "_until", "occurrence")) or column.name == "time":
                assert isinstance(column.type, models.Instant), (table.name, column.name)
