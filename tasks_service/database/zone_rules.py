"""By which rules of its zone a task's next occurrence was computed, and following them when the rules change.

What lives here: the rules of zones that any process of the service ever had, which of them hold, and bringing the next
occurrence of tasks from older ones to those. What does not: reading this host's data (zones.py), and what the next
occurrence is by other rules: a `Mover` says that (schedule.py).

For the whole installation the newest rules hold, whichever host brought them: of the newest release, and
where that does not tell, those that were noted last. So hosts with different data agree at every moment, and none
undoes what another did. Called by due.py, by api/ where a task is made or changed, and by zone_changes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlmodel import Session, col, select

from tasks_service import zones
from tasks_service.database.journal import log_event, touch
from tasks_service.database.models import Run, Skip, Task, ZoneRules
from tasks_service.database.statements import identity, insert_unless_there
from tasks_service.zones import Rules

NO_ZONE = ""
"""The mark of a task that no zone matters to."""

_LATEST = datetime.max.replace(tzinfo=UTC)

# Found by hopping through the index task_zone_rules, one step a mark: what waits costs nothing.
_MARKS = text(
    """
    WITH RECURSIVE marks (mark) AS (
        SELECT min(zone_rules) FROM task WHERE next_run_at IS NOT NULL
        UNION ALL
        SELECT (SELECT min(task.zone_rules) FROM task WHERE next_run_at IS NOT NULL AND task.zone_rules > marks.mark)
        FROM marks WHERE marks.mark IS NOT NULL
    )
    SELECT mark FROM marks WHERE mark IS NOT NULL
    """
)


class Mover(Protocol):
    """The rules of time under changed clocks; schedule.Planner has them."""

    def moved(
        self,
        trigger: Mapping[str, Any],
        *,
        due: datetime,
        now: datetime,
        old: ZoneInfo,
        new: ZoneInfo,
        decided: Callable[[datetime], Sequence[tuple[datetime, datetime]]],
    ) -> datetime | None:
        """Return the first occurrence without an outcome by the new rules, where by the old ones it was `due`."""
        ...


@dataclass(frozen=True)
class Holding:
    """The rules that hold for some zones, by name."""

    by_name: Mapping[str, Rules]

    def of(self, trigger: Mapping[str, Any]) -> Rules | None:
        """Return the rules a trigger goes by; None where it names no zone, or one that nobody knows."""
        return self.by_name.get(zones.name_in(trigger)) if "cron" in trigger else None

    def zone_of(self, trigger: Mapping[str, Any]) -> ZoneInfo | None:
        """Return the zone a trigger goes by, as `of`."""
        rules = self.of(trigger)
        return None if rules is None else rules.zone

    def mark_of(self, trigger: Mapping[str, Any]) -> str:
        """Return what a task is marked with whose next occurrence is computed by these rules."""
        rules = self.of(trigger)
        return NO_ZONE if rules is None else rules.fingerprint


def holding(session: Session, triggers: Iterable[Mapping[str, Any]], *, now: datetime) -> Holding:
    """Return the rules that hold for the zones of triggers; newer ones of this host are noted, and hold from now on."""
    return _newest(session, {zones.name_in(trigger) for trigger in triggers if "cron" in trigger}, now=now)


def held(session: Session, names: Iterable[str], *, now: datetime) -> Mapping[str, Rules]:
    """Return the rules that hold for zones, by name, as `holding`; zones that nobody knows are left out."""
    return _newest(session, set(names), now=now).by_name


def known(session: Session, name: str) -> Rules | None:
    """Return the rules that hold for a zone, for who only reads: nothing is noted. None where nobody knows the zone."""
    return _newest(session, {name}, now=None).by_name.get(name)


def versions(session: Session, name: str) -> list[Rules]:
    """Return all rules that a zone ever had here, those that hold first; none where nobody knows the zone."""
    holds = known(session, name)
    if holds is None:
        return []
    rows = session.exec(select(ZoneRules).where(ZoneRules.name == name)).all()
    ordered = sorted(rows, key=lambda row: (zones.age(row.release), row.noted_at, row.fingerprint), reverse=True)
    noted = (Rules(row.name, row.release, row.data) for row in ordered)
    return [holds, *(rules for rules in noted if rules.fingerprint != holds.fingerprint)]


def follow(session: Session, tasks: Sequence[Task], *, now: datetime, mover: Mover) -> Holding:
    """Bring the next occurrences of tasks, which the caller has locked, to the rules that hold; return those.

    A task nobody noted the rules of is taken to have been computed by them.
    """
    held = holding(session, (task.trigger for task in tasks), now=now)
    for task in tasks:
        mark, before = held.mark_of(task.trigger), task.zone_rules
        if mark == before:
            continue
        rules = held.of(task.trigger)
        old = _noted(session, before) if before and rules is not None else None
        if old is not None and rules is not None and task.next_run_at is not None:
            _move(session, task, old, rules, now=now, mover=mover)
        task.zone_rules = mark
        session.add(task)
    session.flush()
    return held


def outdated(session: Session, *, now: datetime) -> list[str | None]:
    """Return the marks of scheduled tasks that are not those of the rules that hold; None: some have none yet."""
    marks = [mark for (mark,) in session.connection().execute(_MARKS) if mark != NO_ZONE]
    names = dict(
        session.exec(select(ZoneRules.fingerprint, ZoneRules.name).where(col(ZoneRules.fingerprint).in_(marks))).all()
    )
    valid = {rules.fingerprint for rules in _newest(session, set(names.values()), now=now).by_name.values()}
    unmarked = select(Task.id).where(col(Task.next_run_at).is_not(None), col(Task.zone_rules).is_(None)).limit(1)
    return [*(mark for mark in marks if mark not in valid), *([None] if session.exec(unmarked).first() else [])]


def newest_release(session: Session) -> str:
    """Return the newest release of zone data that any process brought; "" where there is none."""
    return max(session.exec(select(ZoneRules.release).distinct()).all(), key=zones.age, default="")


def follow_page(session: Session, mark: str | None, *, now: datetime, mover: Mover, limit: int) -> int:
    """Bring up to `limit` scheduled tasks with an outdated mark to the rules that hold; return how many those were.

    Tasks that somebody else is at are passed over: whoever gives them an outcome has them follow too.
    """
    query = (
        select(Task)
        .where(col(Task.next_run_at).is_not(None))
        .where(col(Task.zone_rules).is_(None) if mark is None else col(Task.zone_rules) == mark)
        .order_by(col(Task.id))
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = session.exec(query).all()
    if found:
        follow(session, found, now=now, mover=mover)
    return len(found)


def _newest(session: Session, names: set[str], *, now: datetime | None) -> Holding:
    """Return the newest rules of each zone, this host's among them; a zone that nobody knows is left out.

    Newer ones of this host are noted at `now`, unless that is None.
    """
    if not names:
        return Holding({})
    columns = (ZoneRules.name, ZoneRules.release, ZoneRules.noted_at, ZoneRules.fingerprint)
    rows = session.exec(select(*columns).where(col(ZoneRules.name).in_(names))).all()
    noted = {fingerprint: (zones.age(release), at, fingerprint, name) for name, release, at, fingerprint in rows}
    own = {rules.fingerprint: rules for rules in map(zones.rules_of, names) if rules is not None}
    for mark, rules in own.items():
        if mark not in noted or noted[mark][0] < zones.age(rules.release):
            if now is not None:
                _note(session, rules, now=now)
            noted[mark] = (zones.age(rules.release), now or _LATEST, mark, rules.name)
    newest = {name: mark for _, _, mark, name in sorted(noted.values())}
    found = {name: own.get(mark) or _noted(session, mark) for name, mark in newest.items()}
    return Holding({name: rules for name, rules in found.items() if rules is not None})


def _note(session: Session, rules: Rules, *, now: datetime) -> None:
    """Keep rules, or the newer release they were seen in: a release may bring back what an older one had."""
    values = {"release": rules.release, "noted_at": now}
    statement = insert_unless_there(session.connection().dialect, ZoneRules).values(
        fingerprint=rules.fingerprint, name=rules.name, data=rules.data, **values
    )
    newer = col(ZoneRules.release) < rules.release  # another process may have noted more meanwhile
    session.connection().execute(
        statement.on_conflict_do_update(index_elements=["fingerprint"], set_=values, where=newer)
    )


def _noted(session: Session, fingerprint: str) -> Rules | None:
    row = session.get(ZoneRules, fingerprint)
    return None if row is None else Rules(row.name, row.release, row.data)


def _move(session: Session, task: Task, old: Rules, new: Rules, *, now: datetime, mover: Mover) -> None:
    """Change when a task is next due, and say so in its log."""
    task_id, due = identity(task), task.next_run_at
    if due is None:
        return
    try:
        moved = mover.moved(
            task.trigger,
            due=due,
            now=now,
            old=old.zone,
            new=new.zone,
            decided=lambda since: _decided(session, task_id, since),
        )
    except ValueError:
        return  # a line that cannot be understood any more: whoever plans it says so, and pauses it
    if moved == due:
        return
    task.next_run_at = moved
    touch(session, task, now=now)
    until = "never" if moved is None else f"{moved:%Y-%m-%dT%H:%M:%SZ}"
    said = f"The clock of {new.name} goes by release {new.release or 'unknown'} of the zone data now: "
    said += f"next is {until} instead of {due:%Y-%m-%dT%H:%M:%SZ}."
    log_event(session, task_id=task_id, now=now, event="task.zone_changed", message=said)


def _decided(session: Session, task_id: int, since: datetime) -> list[tuple[datetime, datetime]]:
    """Return the ranges of a task's occurrences that have their outcome and do not end before a moment."""
    runs = select(Run.occurrence).where(Run.task_id == task_id, Run.kind == "schedule", col(Run.occurrence) >= since)
    skipped = select(Skip.first_occurrence, Skip.last_occurrence).where(
        Skip.task_id == task_id, col(Skip.last_occurrence) >= since
    )
    return [*((one, one) for one in session.exec(runs).all()), *session.exec(skipped).all()]
