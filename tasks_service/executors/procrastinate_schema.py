"""Procrastinate's own tables: the SQL its package ships, the namespace they live in, and whether they fit.

They lie in a PostgreSQL schema of their own, beside whatever else the database holds (a platform's own Procrastinate
too), so that taking them away is one statement. The library's queries name its tables without a schema: who runs one
puts this schema in front of its connection's search path first. Called by the migration that makes them, by cli/
before a process starts, and by procrastinate.py.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Final

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

from tasks_service.errors import SchemaVersionError

NAMESPACE: Final = "tasks_procrastinate"

# The rest of the path stays: trigger functions and types of the caller's own are found as before.
SEARCH_PATH_FIRST: Final = f"SELECT set_config('search_path', '{NAMESPACE}, ' || current_setting('search_path'), true)"


def create(connection: Connection) -> None:
    """Make the namespace and the library's tables in it, and note which library made them."""
    before = connection.execute(text("SELECT current_setting('search_path')")).scalar_one()
    connection.execute(text(f"CREATE SCHEMA {NAMESPACE}"))
    connection.execute(text(f"COMMENT ON SCHEMA {NAMESPACE} IS '{_mark()}'"))
    connection.execute(text(SEARCH_PATH_FIRST))
    # Many statements in one text, with percent signs that are no parameters: so past SQLAlchemy, to the driver.
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 -- a connection that has just answered
    driver.execute(SchemaManager.get_schema())
    connection.execute(text("SELECT set_config('search_path', :before, true)"), {"before": before})


def drop(connection: Connection) -> None:
    """Take the namespace away with all that is in it; messages are lost, and no run suffers."""
    connection.execute(text(f"DROP SCHEMA {NAMESPACE} CASCADE"))


def require_fitting(connection: Connection) -> None:
    """Return where the tables are those of the installed library.

    Raises:
        SchemaVersionError: there are none, or they were made by a library with other tables; the message says what
            to do.
    """
    query = text("SELECT obj_description(to_regnamespace(:name)::oid, 'pg_namespace')")
    found: str | None = connection.execute(query, {"name": NAMESPACE}).scalar_one_or_none()
    if found is None:
        raise SchemaVersionError(
            f"executor.kind is procrastinate, and the database has no schema {NAMESPACE} made by this service; "
            "run `tasks-service db upgrade`."
        )
    if found.rpartition(" ")[2] == _mark().rpartition(" ")[2]:  # another version with the same tables fits
        return
    raise SchemaVersionError(
        f"The wake-ups' tables in the database's schema {NAMESPACE} were made by {found.partition(',')[0]}, and "
        f"{_mark().partition(',')[0]} is installed, whose tables differ. Install the version that made them "
        "(requirements/runtime.txt pins the one this version of the service was tested with), or set "
        'executor.kind = "table".'
    )


def fingerprint() -> str:
    """Return what tells one shape of the library's tables from another."""
    return hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest()[:16]


def _mark() -> str:
    return f"procrastinate {version('procrastinate')}, tables {fingerprint()}"
