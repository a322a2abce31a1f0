"""Zones whose rules change: stored occurrences follow the time zone data, whichever host was given the newer.

One look compares by which rules the next occurrences of all tasks were computed with the rules that hold, and brings
those that differ to them, a page a transaction. A look that finds none costs a few statements, however many tasks
there are. What is due follows before it gets its outcome in any case (database/due.py): this
is for what comes earlier now than it was stored for, and for what the API shows. Called by the scheduler process, every
minute; of several that look, each takes other tasks.
"""

from __future__ import annotations

import structlog

from tasks_service import zones
from tasks_service.database import zone_rules
from tasks_service.database.engine import Database
from tasks_service.database.zone_rules import Mover
from tasks_service.errors import TransientError

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS = 60.0

_PAGE = 200


def follow_zones(database: Database, mover: Mover) -> int:
    """Look once; return how many tasks were brought to other rules. A database that is away is looked at next time."""
    zones.forget()
    followed = 0
    try:
        with database.write() as session:
            outdated = zone_rules.outdated(session, now=database.now(session))
        for mark in outdated:
            while page := _follow_page(database, mark, mover):
                followed += page
    except TransientError as error:
        log.warning("zones.unavailable", code=error.code, detail=error.detail)
    if followed:
        log.info("zones.followed", tasks=followed, release=zones.release())
    return followed


def _follow_page(database: Database, mark: str | None, mover: Mover) -> int:
    with database.write() as session:
        return zone_rules.follow_page(session, mark, now=database.now(session), mover=mover, limit=_PAGE)
