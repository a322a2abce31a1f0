"""The clock a stored trigger goes by: its zone under the rules that hold, and the error where it has none any more.

What lives here: what routes ask before they work out occurrences themselves. What does not: which rules hold
(database/zone_rules.py), and what is due by them (database/due.py, which pauses a task it cannot understand).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import Session

from tasks_service import schedule
from tasks_service.database import zone_rules
from tasks_service.errors import ConflictError


class Clocks:
    """The clocks of zones for one request, each looked up once: by all rules that any host ever brought."""

    def __init__(self, session: Session) -> None:
        """Read from this session."""
        self._session = session
        self._found: dict[str, list[ZoneInfo]] = {}

    def of(self, name: str) -> list[ZoneInfo]:
        """Return a zone by each of its rules, those that hold first; none where nobody knows it."""
        if name not in self._found:
            self._found[name] = [rules.zone for rules in zone_rules.versions(self._session, name)]
        return self._found[name]


class InvalidTriggerError(ConflictError):
    """The task's trigger cannot be understood any more, because its time zone was removed; change the trigger first."""

    code = "invalid_trigger"


def clock_of(session: Session, trigger: Mapping[str, Any]) -> ZoneInfo:
    """Return the zone of a stored trigger, by the newest rules that any host brought.

    Raises InvalidTriggerError where nobody knows the zone, or the cron line is none of the dialect any more.
    """
    name = trigger["timezone"]
    rules = zone_rules.known(session, name)
    if rules is None:
        raise InvalidTriggerError(
            f"The time zone data of the service has no zone `{name}` any more; send a `trigger` with another "
            "`timezone`, then go on."
        )
    if "cron" in trigger:
        try:
            schedule.parse_cron(trigger["cron"])
        except schedule.CronError as error:
            detail = f"The cron line of the task is understood no more: it {error}; send another `trigger`, then go on."
            raise InvalidTriggerError(detail) from error
    return rules.zone
