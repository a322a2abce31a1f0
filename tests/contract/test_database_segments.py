"""Saved segments and the runs made with them, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlmodel import Session

from tasks_service.database import runs, schema, segments, tasks
from tasks_service.database.clients import Principal
from tasks_service.database.models import SavedSegment, SegmentVersion, Task
from tasks_service.database.segments import NameTakenError
from tests.databases import MINUTE, NOW, Stage

BOTH = 60


def rules(value: int) -> dict[str, Any]:
    return {"index": "products", "chain_id": 1, "rules": [value]}


def save(stage: Stage, chain: int = 1, *, name: str = "some", value: int = 1) -> int:
    principal = stage.principal(chain)

    def create(session: Session) -> int:
        made = segments.create_segment(
            session, now=NOW, principal=principal, chain=chain, name=name, document=rules(value)
        )  # fmt: skip
        assert made.id is not None
        return made.id

    return stage.write(create)


def replace(stage: Stage, segment_id: int, value: int, principal: Principal | None = None) -> None:
    author = principal or stage.principal(1)

    def change(session: Session) -> None:
        row = segments.get_segment(session, segment_id, chain=1, lock="change")
        assert row is not None
        segments.replace_segment(session, row, now=NOW, principal=author, name=row.name, document=rules(value))

    stage.write(change)


def delete(stage: Stage, segment_id: int) -> segments.Users:
    def remove(session: Session) -> segments.Users:
        row = segments.get_segment(session, segment_id, chain=None, lock="delete")
        assert row is not None
        return segments.delete_segment(session, row, now=NOW)

    return stage.write(remove)


@contextmanager
def statements(stage: Stage) -> Iterator[list[str]]:
    """Every statement sent meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(stage.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(stage.database.engine, "before_cursor_execute", note)


def used(definition: dict[str, Any]) -> tuple[Any, ...]:
    trigger = definition["trigger"]
    return trigger.get("segment_id"), trigger.get("segment_version"), trigger.get("segment")


def test_a_due_run_carries_the_version_of_the_moment_it_was_made(stage: Stage) -> None:
    saved = save(stage)
    task = stage.task(due_at=NOW, segment_id=saved, overlap="allow")
    replace(stage, saved, 2)
    [first] = stage.due(NOW)
    replace(stage, saved, 3)
    [second] = stage.due(NOW + MINUTE)
    found = [used(stage.read_run(made.run_id).definition) for made in (first, second)]
    assert found == [(saved, 2, rules(2)), (saved, 3, rules(3))]
    assert stage.read_task(task).trigger["segment_id"] == saved
    assert "segment" not in stage.read_task(task).trigger


def test_a_manual_run_and_a_retry_carry_theirs(stage: Stage) -> None:
    saved = save(stage)
    task = stage.task(once="2999-01-01T00:00:00Z", segment_id=saved)
    first = stage.run(task, kind="manual")
    replace(stage, saved, 2)
    second = stage.run(task, kind="manual")
    retry = stage.run(task, kind="retry", repeats=stage.read_run(first))
    versions = [used(stage.read_run(one).definition)[1] for one in (first, second, retry)]
    assert versions == [1, 2, 1]


def test_a_batch_asks_once_for_all_its_segments_and_not_at_all_without(stage: Stage) -> None:
    for name in "abcde":
        stage.task(due_at=NOW, segment_id=save(stage, name=name))
    stage.task(due_at=NOW)
    with statements(stage) as sent:
        assert len(stage.due(NOW)) == 6
    asked = [one for one in sent if "segment_version" in one]
    assert len(asked) == 1
    stage.task(due_at=NOW)
    with statements(stage) as sent:
        stage.due(NOW, batch=1)
    assert [one for one in sent if "segment_version" in one and "WHERE" in one] == []


def test_a_run_of_a_segment_that_is_gone_stays_a_bare_id(stage: Stage) -> None:
    task = stage.task(due_at=NOW, segment_id=999)
    [made] = stage.due(NOW)
    manual = stage.run(task, kind="manual")
    for run in (made.run_id, manual):
        assert used(stage.read_run(run).definition) == (999, None, None)


def test_an_edit_of_the_trigger_changes_the_use(stage: Stage) -> None:
    first, second = save(stage), save(stage, name="other")
    task = stage.task(due_at=NOW, segment_id=first)

    def edit(trigger: dict[str, Any]) -> Callable[[Session], None]:
        def do(session: Session) -> None:
            row = tasks.get_task(session, task.id or 0, chain=None, lock=True)
            assert row is not None
            tasks.edit_task(session, row, now=NOW, trigger=trigger)

        return do

    with stage.database.read() as session:
        assert segments.users_of(session, first) == segments.Users(1, (task.id or 0,))
    stage.write(edit(task.trigger | {"segment_id": second}))
    with stage.database.read() as session:
        assert [segments.users_of(session, one).count for one in (first, second)] == [0, 1]
    stage.write(edit({name: value for name, value in task.trigger.items() if name != "segment_id"}))
    assert delete(stage, second).count == 0


def test_only_living_tasks_keep_a_segment(stage: Stage) -> None:
    saved = save(stage)
    ids = [stage.task(segment_id=saved).id or 0 for _ in range(12)]
    assert delete(stage, saved) == segments.Users(12, tuple(ids[:10]))
    with stage.database.read() as session:
        assert segments.get_segment(session, saved, chain=1) is not None
    for task_id in ids:
        stage.write(lambda session, task_id=task_id: tasks.delete_task(session, locked(session, task_id), now=NOW))
    assert delete(stage, saved).count == 0
    with stage.database.read() as session:
        assert segments.get_segment(session, saved, chain=1) is None
        assert segments.newest_versions(session, [saved]) == {}
    assert [one.version for one in stage.all(SegmentVersion)] == [1]
    assert save(stage) != saved


def locked(session: Session, task_id: int) -> Task:
    row = tasks.get_task(session, task_id, chain=None, lock=True)
    assert row is not None
    return row


def test_a_name_is_one_chains_own(stage: Stage) -> None:
    save(stage)
    save(stage, 2)
    with pytest.raises(NameTakenError):
        save(stage)
    other = save(stage, name="other")

    def rename(session: Session) -> None:
        row = segments.get_segment(session, other, chain=1, lock="change")
        assert row is not None
        principal = stage.principal(1)
        segments.replace_segment(session, row, now=NOW, principal=principal, name="some", document=rules(1))

    with pytest.raises(NameTakenError):
        stage.write(rename)
    assert [one.version for one in stage.all(SavedSegment)] == [1, 1, 1]
    assert len(stage.all(SegmentVersion)) == 3


def test_of_two_that_save_one_name_at_once_one_is_refused(stage: Stage) -> None:
    stage.principal(1)
    start = Barrier(2)

    def race(_: int) -> bool:
        start.wait(BOTH)
        try:
            save(stage)
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(race, range(2))) == [False, True]
    assert len(stage.all(SavedSegment)) == len(stage.all(SegmentVersion)) == 1


def test_of_two_that_replace_at_once_each_makes_a_version(stage: Stage) -> None:
    saved = save(stage)
    start = Barrier(2)

    def race(value: int) -> None:
        start.wait(BOTH)
        replace(stage, saved, value)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(race, [2, 3]))
    assert sorted(one.version for one in stage.all(SegmentVersion)) == [1, 2, 3]


def test_a_segment_is_not_deleted_under_a_task_that_is_being_made(stage: Stage) -> None:
    saved, principal = save(stage), stage.principal(1)
    held, tried = Event(), Event()

    def make() -> int:
        with stage.database.write() as session:
            assert segments.hold_segment(session, saved, chain=1)
            held.set()
            # Whoever deletes has begun by now, and waits for this transaction; on SQLite for its very first statement.
            assert tried.wait(BOTH)
            task = tasks.create_task(
                session,
                now=NOW,
                principal=principal,
                chain=1,
                desc=None,
                target={"action": "export", "export_index": "products", "export_format": "csv"},
                trigger={"once": "2999-01-01T00:00:00Z", "segment_id": saved},
                next_run_at=None,
            )
            return task.id or 0

    def remove() -> segments.Users:
        assert held.wait(BOTH)
        tried.set()
        return delete(stage, saved)

    with ThreadPoolExecutor(2) as pool:
        task, users = pool.submit(make), pool.submit(remove)
        assert users.result(BOTH) == segments.Users(1, (task.result(BOTH),))


def test_a_deleted_segment_and_another_chains_cannot_be_held(stage: Stage) -> None:
    saved = save(stage)

    def hold(chain: int) -> bool:
        return stage.write(lambda session: segments.hold_segment(session, saved, chain=chain))

    assert (hold(1), hold(2)) == (True, False)
    delete(stage, saved)
    assert hold(1) is False


def test_a_downgrade_writes_a_segment_into_its_tasks(stage: Stage) -> None:
    saved = save(stage)
    replace(stage, saved, 2)
    using, own, none = (
        stage.task(once="2999-01-01T00:00:00Z", **more) for more in ({"segment_id": saved}, {"segment": rules(9)}, {})
    )
    try:
        schema.downgrade(stage.database, "0001")
        with stage.database.read() as session:
            rows = session.connection().execute(text("SELECT id, trigger FROM task")).all()
    finally:
        schema.upgrade(stage.database)
    triggers = {key: value if isinstance(value, dict) else json.loads(value) for key, value in rows}
    assert triggers[using.id] == {"once": "2999-01-01T00:00:00Z", "segment": rules(2)}
    assert triggers[own.id]["segment"] == rules(9)
    assert "segment" not in triggers[none.id]


def test_runs_of_the_past_are_read_as_ever() -> None:
    task = Task(chain=1, client_id="c", target={"t": 1}, trigger={"once": "x", "segment": rules(1)}, export_index="p")
    assert runs.definition_of(task, {}) == {"target": {"t": 1}, "trigger": {"once": "x", "segment": rules(1)}}
