"""How PostgreSQL is connected to: what bounds a silence, on both sides.

What lives here: the parameters of a connection and of its session, and a connection that ends itself when the server
does not answer. What does not: sessions and retries (engine.py). Called by engine.py and schema.py, where PostgreSQL is
used.

A lost machine is found out by the kernel: keepalives while the connection is idle, `tcp_user_timeout` while something
sent is unacknowledged. Neither says a word where the other side's kernel still acknowledges and nobody answers (a proxy
or a machine that froze), and a statement timeout is the server's: it ends nothing that the server never heard of. So
every wait for an answer is bounded here as well, by longer than the server itself may take.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

CONNECT_SECONDS = 5
ANSWER_SECONDS = 15.0
"""No answer for so long is none: the server's own limits for a statement and for a lock are shorter."""

CONNECT: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "tasks-service",
}
# A session that stops in mid-transaction (a frozen host) must not hold its row locks for ever.
SESSION = (
    "SET timezone = 'UTC'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '12s'",
    "SET idle_in_transaction_session_timeout = '30s'",
)
# Classes 08 (connection), 40 (serialisation, deadlock), 53 (resources), 57 (operator intervention,
# statement time-out), and lock_not_available, idle_in_transaction_session_timeout,
# read_only_sql_transaction (a standby that is being promoted).
_PASSING_CLASSES = ("08", "40", "53", "57")
_PASSING_STATES = ("55P03", "25P03", "25006")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that closes itself, and raises OperationalError, when an answer is not there in time.

    Attributes:
        answer_seconds: how long an answer may take.
    """

    answer_seconds: float = ANSWER_SECONDS

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401 -- passed on as they are
        """Wait for an answer, and not for ever."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        """Go on as `gen` does; its driver comes round several times a second while nothing has come."""
        until = monotonic() + self.answer_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and monotonic() >= until:
                    self.pgconn.finish()  # an answer that comes yet is nobody's
                    raise psycopg.OperationalError(f"the server did not answer within {self.answer_seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


@contextmanager
def unhurried(connection: Any) -> Generator[None]:  # noqa: ANN401 -- whatever the pool holds
    """Let statements and locks take as long as they do, in this transaction: a migration rewrites tables."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 0")
        cursor.execute("SET LOCAL statement_timeout = 0")
    connection.answer_seconds = float("inf")
    try:
        yield
    finally:
        del connection.answer_seconds


def connect(_dialect: object, _record: object, arguments: list[Any], parameters: dict[str, Any]) -> BoundedConnection:
    """Connect, in the place of SQLAlchemy's own call."""
    return BoundedConnection.connect(*arguments, **parameters)


def prepare(connection: BoundedConnection, _record: object) -> None:
    """Make the session's settings, outside of any transaction."""
    autocommit = connection.autocommit
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in SESSION:
            cursor.execute(statement.encode())
    connection.autocommit = autocommit


def passes(original: BaseException | None) -> bool:
    """Tell whether what PostgreSQL raised may well not be raised again."""
    if not isinstance(original, psycopg.Error):
        return False
    if original.sqlstate is None:  # the client library's own: no connection, or it broke
        return isinstance(original, psycopg.OperationalError)
    return original.sqlstate.startswith(_PASSING_CLASSES) or original.sqlstate in _PASSING_STATES
