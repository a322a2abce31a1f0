"""The shape of the tables: which revision a database has, which one is known here, and the way between.

Called by cli/ (`tasks-service db upgrade`), by every process before it starts (`require_current`), and by
tests. The revisions themselves are in migrations/versions/; they are packaged, and need no file outside.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tasks_service.database.engine import Database
from tasks_service.errors import SchemaVersionError

# Two `db upgrade` at once: the second waits, and finds nothing left to do.
_UPGRADE_LOCK = 0x7461736B73


def head_revision() -> str:
    """Return the revision this version of the service knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migration")
    return head


def current_revision(database: Database) -> str | None:
    """Return the revision of the database; None where it is empty (a missing SQLite file is not created)."""
    if database.path is not None and not database.path.exists():
        return None
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def require_current(database: Database, *, or_newer: bool = False) -> None:
    """Return where the database has the schema this version knows.

    With `or_newer` a schema it does not know passes too: migrations leave a version that runs already able to go on,
    so that an upgrade under way does not take every running process out of service.

    Raises:
        SchemaVersionError: it has none, an older or an unknown one; the message says what to run.
        DatabaseUnavailableError: it did not answer.
    """
    current, head = current_revision(database), head_revision()
    if current == head:
        return
    if current is None:
        raise SchemaVersionError("The database has no tables yet; run `tasks-service db upgrade`.")
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current in known:
        raise SchemaVersionError(
            f"The database's schema is {current}, this version needs {head}; run `tasks-service db upgrade`."
        )
    if or_newer:
        return
    raise SchemaVersionError(
        f"The database's schema is {current}, which this version ({head}) does not know: it is newer. "
        "Install the version of the service that made it."
    )


def upgrade(database: Database) -> None:
    """Bring the database to the head revision, in one transaction.

    Make the SQLite file and its directory if missing.
    """
    if database.path is not None:
        database.path.parent.mkdir(parents=True, exist_ok=True)
    with database.write() as session, _locked(session.connection()) as config:
        command.upgrade(config, "head")


def downgrade(database: Database, revision: str) -> None:
    """Bring the database back to `revision` (`base`: no tables), in one transaction.

    What newer columns held is lost.
    """
    with database.write() as session, _locked(session.connection()) as config:
        command.downgrade(config, revision)


@contextmanager
def _locked(connection: Connection) -> Generator[Config]:
    """Keep every other migration out until the end of the transaction, however long this one takes."""
    config = _config()
    config.attributes["connection"] = connection
    with ExitStack() as unhurried:
        if connection.dialect.name == "postgresql":
            from tasks_service.database import postgresql

            unhurried.enter_context(postgresql.unhurried(connection.connection.dbapi_connection))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        yield config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
