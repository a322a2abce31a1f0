"""GET /tasks/{id}/occurrences: what became of every occurrence of a task's schedule, one line each.

What lives here: putting the runs of a task and the stretches of its schedule that have none together, in the order of
time, a page at a time. What does not: deciding outcomes (schedule.py and database/due.py) and finding the rows
(database/occurrences.py). Writing a stretch out is stretches.py.

A cursor is the occurrence the page starts behind, in microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlmodel import Session

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.clocks import Clocks
from tasks_service.api.cursors import Pages, Position
from tasks_service.api.moments import read_bound
from tasks_service.api.problems import InvalidParametersError
from tasks_service.api.routes import READ, Route, Success
from tasks_service.api.stretches import Stretch, pending, skipped
from tasks_service.api.tasks import find_task
from tasks_service.database import occurrences as rows
from tasks_service.database.models import Task
from tasks_service.database.occurrences import Span
from tasks_service.database.statements import identity
from tasks_service.errors import Fault
from tasks_service.occurrence_schemas import OccurrencePage, OccurrenceQuery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class _Asked:
    """Which occurrences a request asks for, and which way it pages; `now` is when it came."""

    query: OccurrenceQuery
    span: Span
    position: Position
    now: datetime
    clocks: Clocks

    @property
    def back(self) -> bool:
        return self.position.direction == "previous"

    @property
    def most(self) -> int:
        """A page and one more, which tells that there are more."""
        return self.query.limit + 1

    def wants(self, outcome: str) -> bool:
        """Tell whether occurrences of this outcome are asked for."""
        if self.query.reason is not None:
            return outcome == "skipped"
        return self.query.outcome in {None, outcome}


@dataclass(frozen=True)
class _Line:
    """An occurrence, or a stretch of which only its ends are known (`whole`), and the stretch it was a part of."""

    occurrence: datetime
    stretch: Stretch | None = None
    whole: bool = False


def list_occurrences(call: Call) -> Reply:
    """Answer a page of a task's occurrences with their outcomes, newest first."""
    query, task_id = call.query(OccurrenceQuery), int(call.path["task_id"])
    filters = query.model_dump(exclude={"limit", "cursor"})
    pages = Pages(call.services.secret_key, f"/tasks/{task_id}/occurrences", filters, call.principal.client_id)
    position = pages.position(query.cursor)
    span = _span(query, position)
    with call.services.database.read() as session:
        task = find_task(call, session, deleted=True)
        asked = _Asked(query, span, position, call.services.database.now(session), Clocks(session))
        found = _lines(session, task, asked)
        lines = found[: query.limit][:: -1 if asked.back else 1]
        results = _documents(session, task, lines, asked)
    base = call.services.settings.service.public_url
    keys = [(one.occurrence - _EPOCH) // _MICROSECOND for one in lines]
    links = pages.links(keys, position, more=len(found) > query.limit, limit=query.limit, base=base)
    return Reply({"results": results, **links})


def _span(query: OccurrenceQuery, position: Position) -> Span:
    """Return what the filters and the cursor leave of time; raise InvalidParametersError with every fault."""
    faults: list[Fault] = []
    start = read_bound(query.occurrence_after, "occurrence_after", faults)
    end = read_bound(query.occurrence_before, "occurrence_before", faults)
    if query.outcome not in {None, "skipped"} and query.reason is not None:
        faults.append(Fault("reason", "clash", "Only skipped occurrences have a reason; leave out `outcome`."))
    if faults:
        raise InvalidParametersError(faults=faults)
    if position.after is None:
        return Span(start, end)
    edge = _EPOCH + _MICROSECOND * position.after
    if position.direction == "previous":
        edge += _MICROSECOND
        return Span(edge if start is None else max(start, edge), end)
    return Span(start, edge if end is None else min(end, edge))


def _lines(session: Session, task: Task, asked: _Asked) -> list[_Line]:
    """Return a page's lines and one more, in the direction of paging."""
    lines: dict[datetime, _Line] = {}
    if asked.wants("run"):
        lines |= {one: _Line(one) for one in islice(_with_runs(session, task, asked), asked.most)}
    if asked.wants("pending") and (stretch := _pending(task, asked)) is not None:
        lines |= {one.occurrence: one for one in _written_out([stretch], asked)}
    if asked.wants("skipped"):
        # One more: in the one direction a range that is shown as a whole may lie behind the cursor already.
        found = rows.skipped_ranges(
            session,
            identity(task),
            asked.span,
            reason=asked.query.reason,
            limit=asked.most + 1,
            direction=asked.position.direction,
        )
        stretches = [skipped(one, asked.clocks) for one in found]
        lines |= {one.occurrence: one for one in islice(_written_out(stretches, asked), asked.most)}
    return sorted(lines.values(), key=lambda line: line.occurrence, reverse=not asked.back)[: asked.most]


def _with_runs(session: Session, task: Task, asked: _Asked) -> Iterator[datetime]:
    """Yield the occurrences that have a run, in the direction of paging.

    Where every outcome is asked for, also those of which the schedule made none, but a backfill did.
    """
    span, most = asked.span, asked.most
    while True:
        found = rows.occurrences_with_runs(
            session, identity(task), span, limit=most, direction=asked.position.direction
        )
        others = [] if asked.query.outcome is None else _stretches(session, task, found, asked)
        yield from (one for one in found if not any(stretch.has(one) for stretch in others))
        if len(found) < most:
            return
        span = replace(span, start=found[-1] + _MICROSECOND) if asked.back else replace(span, end=found[-1])


def _pending(task: Task, asked: _Asked) -> Stretch | None:
    """Return the stretch of what has no outcome yet: until now, or until the end that was asked for."""
    end = asked.span.end if asked.query.occurrence_before is not None else asked.now + _MICROSECOND
    return pending(task, asked.clocks, before=asked.now + _MICROSECOND if end is None else end)


def _written_out(stretches: Sequence[Stretch], asked: _Asked) -> Iterator[_Line]:
    """Yield the occurrences of stretches in the direction of paging."""
    span = asked.span
    for stretch in stretches:
        instants = stretch.within(span.start, span.end, most=asked.most, ascending=asked.back)
        if instants is not None:
            yield from (_Line(one, stretch) for one in instants)
        elif not asked.back or asked.position.after is None or stretch.first >= (span.start or _EPOCH):
            yield _Line(stretch.first, stretch, whole=True)


def _documents(session: Session, task: Task, lines: Sequence[_Line], asked: _Asked) -> list[dict[str, Any]]:
    instants = [line.occurrence for line in lines]
    runs = rows.runs_of(session, identity(task), instants)
    stretches = _stretches(session, task, instants, asked)
    found: list[dict[str, Any]] = []
    for line in lines:
        own = runs.get(line.occurrence, [])
        # Its line may have come from a run of a backfill, or have got its run since it was looked for.
        stretch = line.stretch or next((one for one in stretches if one.has(line.occurrence)), None)
        if any(run.kind == "schedule" for run in own):
            stretch = None
        found.append(shapes.occurrence(line.occurrence, stretch, own, whole=line.whole))
    return found


def _stretches(session: Session, task: Task, instants: Sequence[datetime], asked: _Asked) -> list[Stretch]:
    """Return the stretches without a run that have a part in the time of these occurrences."""
    if not instants:
        return []
    first, last = min(instants), max(instants)
    found = [skipped(one, asked.clocks) for one in rows.skips_around(session, identity(task), first, last)]
    still = _pending(task, asked)
    return found if still is None else [*found, still]


ROUTES = (
    Route(
        "GET",
        "/tasks/{task_id}/occurrences",
        list_occurrences,
        READ,
        summary="List a task's occurrences",
        description=(
            "What became of each moment of the schedule, newest first, exactly one outcome each: `run`, `skipped` for "
            "a `reason`, or `pending` where nothing is decided yet, because its time has just come or the task is "
            "paused. Moments to come are in the list, as `pending`, where `occurrence_before` reaches beyond now. "
            "Runs that `execute` made are no occurrences of a schedule: `GET /tasks/{id}/runs` has those."
        ),
        answers=[Success(200, "A page of occurrences.", OccurrencePage)],
        query=OccurrenceQuery,
        errors=[InvalidParametersError],
        tag="Runs",
    ),
)
