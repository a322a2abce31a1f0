"""The tables of messages are the ones this version of the service knows."""

from __future__ import annotations

from tasks_service.executors import procrastinate_schema


def test_the_library_ships_the_tables_this_version_was_written_for() -> None:
    """A library with other tables needs a migration of ours, before its version may be pinned."""
    assert procrastinate_schema.fingerprint() == "c70ec4b400a60ad9"
