"""Clients, tasks and runs as the API sees them, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session

from tasks_service.database import clients, runs, tasks
from tasks_service.database.clients import Principal
from tasks_service.database.models import Event, Run, Task, Token
from tasks_service.database.tasks import TaskFilters
from tasks_service.errors import ConflictError, DatabaseUnavailableError, NotFoundError
from tests.databases import MINUTE, NOW, Stage

MINUTES = timedelta(minutes=1)


def locked(session: Session, task: Task) -> Task:
    row = tasks.get_task(session, task.id or 0, chain=None, lock=True)
    assert row is not None
    return row


def make_client(stage: Stage, *, chain: int | None = 5, lifetime: timedelta | None = None) -> tuple[str, str, str]:
    """A client with a token; returns the client's id, the token's id, the secret."""
    with stage.database.write() as session:
        now = stage.database.now(session)
        client = clients.create_client(session, now=now, name=f"n{chain}", chain=chain, scopes=["tasks:read"])
        token, shown = clients.create_token(session, now=now, client=client, lifetime=lifetime)
        token_id, _, secret = shown.partition(":")
        assert token_id == token.id
        return client.id, token_id, secret


def test_a_token_opens_for_its_client(stage: Stage) -> None:
    client, token, secret = make_client(stage)
    expected = Principal(client, "n5", 5, frozenset({"tasks:read"}), "client")
    assert clients.authenticate(stage.database, token, secret) == expected
    operator, token, secret = make_client(stage, chain=None)
    assert clients.authenticate(stage.database, token, secret) == Principal(
        operator, "nNone", None, frozenset({"tasks:read"}), "operator"
    )


def test_a_secret_is_not_kept(stage: Stage) -> None:
    _, token, secret = make_client(stage)
    assert secret not in str(stage.all(Token))
    assert len(secret) >= 43  # 256 bits
    for wrong in (secret[:-1], secret + "x", "", secret.swapcase(), "\0", "\ud800", "é"):
        assert clients.authenticate(stage.database, token, wrong) is None
    for unknown in ("", "tok_none", token.upper(), "\0", "\ud800", "é", token + "\0"):
        assert clients.authenticate(stage.database, unknown, secret) is None


def test_a_token_ends_by_time_by_revocation_and_with_its_client(stage: Stage) -> None:
    client, token, secret = make_client(stage, lifetime=timedelta(hours=1))
    stage.database.clock_offset = timedelta(minutes=59)
    assert clients.authenticate(stage.database, token, secret) is not None
    stage.database.clock_offset = timedelta(minutes=60, seconds=1)
    assert clients.authenticate(stage.database, token, secret) is None

    def another(session: Session) -> list[str]:
        row = clients.find_client(session, "n5")
        assert row is not None
        return clients.create_token(session, now=stage.database.now(session), client=row)[1].split(":")

    first, second = stage.write(another), stage.write(another)
    assert clients.authenticate(stage.database, *first) is not None
    stage.write(lambda session: clients.revoke_token(session, first[0], now=NOW))
    assert clients.authenticate(stage.database, *first) is None
    assert clients.authenticate(stage.database, *second) is not None
    stage.write(lambda session: clients.remove_client(session, client, now=NOW))
    assert clients.authenticate(stage.database, *second) is None
    with stage.database.read() as session:
        assert clients.find_client(session, "n5") is None
        assert clients.list_clients(session) == []
        assert len(clients.list_clients(session, removed=True)) == 1
        assert len(clients.list_tokens(session, client_id=client)) == 3
    # The name is free again.
    assert make_client(stage)[0] != client


def test_the_use_of_a_token_is_noted_once_a_minute_and_never_needed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token, secret = make_client(stage)

    def used() -> datetime | None:
        clients.authenticate(stage.database, token, secret)
        [row] = stage.all(Token)
        return row.last_used_at

    first = used()
    assert first is not None
    stage.database.clock_offset = timedelta(seconds=30)
    assert used() == first
    stage.database.clock_offset = timedelta(seconds=90)
    second = used()
    assert second is not None
    assert second > first

    def busy() -> None:
        raise DatabaseUnavailableError

    stage.database.clock_offset = timedelta(seconds=180)
    monkeypatch.setattr(stage.database, "write", busy)
    assert clients.authenticate(stage.database, token, secret) is not None


def test_clients_have_different_names_and_known_scopes(stage: Stage) -> None:
    make_client(stage)
    with pytest.raises(ConflictError, match="n5"):
        make_client(stage)
    with pytest.raises(ValueError, match="tasks:read, tasks:write, admin"):
        stage.write(lambda s: clients.create_client(s, now=NOW, name="x", chain=1, scopes=["tasks:erase"]))
    with pytest.raises(NotFoundError):
        stage.write(lambda s: clients.revoke_token(s, "tok_none", now=NOW))
    with pytest.raises(NotFoundError):
        stage.write(lambda s: clients.remove_client(s, "client_none", now=NOW))


def ids(stage: Stage, filters: TaskFilters, **more: Any) -> tuple[list[int | None], bool]:
    with stage.database.read() as session:
        rows, left = tasks.list_tasks(session, filters, **({"limit": 100} | more))
        return [row.id for row in rows], left


def test_pages_are_newest_first_and_lead_there_and_back(stage: Stage) -> None:
    made = [stage.task(1).id for _ in range(7)][::-1]
    every = TaskFilters(chain=1)
    assert ids(stage, every) == (made, False)
    assert ids(stage, every, limit=3) == (made[:3], True)
    assert ids(stage, every, limit=3, after=made[2]) == (made[3:6], True)
    assert ids(stage, every, limit=3, after=made[5]) == (made[6:], False)
    assert ids(stage, every, limit=3, after=made[6]) == ([], False)
    assert ids(stage, every, limit=3, after=made[6], direction="previous") == (made[3:6], True)
    assert ids(stage, every, limit=3, after=made[3], direction="previous") == (made[:3], False)
    # A task made meanwhile moves no page.
    stage.task(1)
    assert ids(stage, every, limit=3, after=made[2]) == (made[3:6], True)


def test_filters(stage: Stage) -> None:
    early, late = stage.task(1), stage.task(1, at=NOW + MINUTE)
    other = stage.task(2, at=NOW + MINUTE)
    deleted = stage.task(1, at=NOW)
    stage.write(lambda session: tasks.delete_task(session, locked(session, deleted), now=NOW))
    stage.run(late)
    stage.claimed(NOW + MINUTE)
    assert ids(stage, TaskFilters()) == ([other.id, late.id, early.id], False)
    assert ids(stage, TaskFilters(chain=1)) == ([late.id, early.id], False)
    assert ids(stage, TaskFilters(chain=1, deleted=True))[0] == [deleted.id, late.id, early.id]
    assert ids(stage, TaskFilters(state="INPROGRESS"))[0] == [late.id]
    assert ids(stage, TaskFilters(export_index="users"))[0] == []
    assert ids(stage, TaskFilters(export_index="products"))[0] == [other.id, late.id, early.id]
    assert ids(stage, TaskFilters(created_after=NOW + MINUTE))[0] == [other.id, late.id]
    assert ids(stage, TaskFilters(created_before=NOW + MINUTE))[0] == [early.id]


def test_a_task_is_its_chains_alone(stage: Stage) -> None:
    task = stage.task(1)
    run_id = stage.run(task)
    with stage.database.read() as session:
        assert tasks.get_task(session, task.id or 0, chain=1) is not None
        assert tasks.get_task(session, task.id or 0, chain=2) is None
        assert tasks.get_task(session, task.id or 0, chain=None) is not None
        assert runs.get_run(session, run_id, chain=1) is not None
        assert runs.get_run(session, run_id, chain=2) is None
        assert runs.get_run(session, run_id, chain=2, lock=True) is None
        assert runs.get_run(session, 999, chain=None) is None


def test_an_edit_counts_and_is_logged(stage: Stage) -> None:
    task = stage.task(1)
    target = task.target | {"export_index": "users"}
    stage.write(lambda s: tasks.edit_task(s, locked(s, task), now=NOW + MINUTE, desc="x", target=target))
    shown = stage.read_task(task)
    assert (shown.desc, shown.export_index, shown.version, shown.revision) == ("x", "users", 2, 2)
    assert (shown.trigger, shown.modified_at, shown.created_at) == (task.trigger, NOW + MINUTE, NOW)
    stage.write(lambda s: tasks.edit_task(s, locked(s, task), now=NOW, desc=None))
    assert stage.read_task(task).desc is None


def test_pause_and_resume_carry_a_note(stage: Stage) -> None:
    task = stage.task(1, due_at=NOW)
    stage.write(lambda s: tasks.pause_task(s, locked(s, task), now=NOW, note="Holidays.", reason="scope_lost"))
    shown = stage.read_task(task)
    assert (shown.paused_at, shown.paused_note, shown.state_reason) == (NOW, "Holidays.", "paused_scope_lost")
    stage.write(lambda s: tasks.resume_task(s, locked(s, task), now=NOW, next_run_at=NOW + MINUTE, note="Back."))
    shown = stage.read_task(task)
    assert (shown.paused_at, shown.paused_note, shown.state_reason) == (None, None, None)
    assert (shown.next_run_at, shown.revision) == (NOW + MINUTE, 3)
    assert [event.message for event in stage.all(Event)][1:] == ["Paused: Holidays.", "Resumed: Back."]


def test_a_deleted_task_has_no_future(stage: Stage) -> None:
    task = stage.task(1, due_at=NOW)
    queued = stage.run(task)
    stage.write(lambda session: tasks.delete_task(session, locked(session, task), now=NOW))
    with stage.database.read() as session:
        assert tasks.get_task(session, task.id or 0, chain=1) is None
        assert tasks.get_task(session, task.id or 0, chain=1, deleted=True) is not None
    shown, run = stage.read_task(task), stage.read_run(queued)
    assert (shown.deleted_at, shown.next_run_at) == (NOW, None)
    assert (run.state, run.reason, run.finished_at) == ("cancelled", "cancelled", NOW)
    assert stage.due(NOW + MINUTE) == []
    assert stage.claim(NOW + MINUTE) is None


def test_a_queued_run_is_cancelled_at_once(stage: Stage) -> None:
    task = stage.task(1)
    run_id = stage.run(task)

    def cancel(session: Session) -> bool:
        run = runs.get_run(session, run_id, chain=1, lock=True)
        assert run is not None
        return runs.request_cancel(session, run, now=NOW)

    assert stage.write(cancel)
    assert not stage.write(cancel)
    shown = stage.read_task(task)
    assert (shown.state, shown.state_reason) == ("ERROR", "cancelled")
    assert stage.claim() is None


def test_whoever_waits_for_a_run_now_does_not_see_the_former_ending(stage: Stage) -> None:
    task = stage.task(1)
    stage.run(task)
    stage.publish(stage.claimed())
    assert stage.read_task(task).state == "DONE"
    stage.run(task, occurrence=NOW + MINUTE)
    assert stage.read_task(task).state == "DONE"
    stage.run(task, kind="manual")
    assert stage.read_task(task).state == "READY"
    stage.claimed()
    assert stage.read_task(task).state == "INPROGRESS"


def test_a_retry_repeats_the_definition_and_the_occurrence(stage: Stage) -> None:
    task = stage.task(1)
    first = stage.run(task)
    stage.fail(stage.claimed())
    stage.write(lambda s: tasks.edit_task(s, locked(s, task), now=NOW, target=task.target | {"export_format": "json"}))
    failed = stage.read_run(first)
    again = stage.read_run(stage.run(task, kind="retry", occurrence=failed.occurrence, repeats=failed, at=NOW + MINUTE))
    assert (again.occurrence, again.repeats_run_id, again.kind) == (failed.occurrence, first, "retry")
    assert (again.definition, again.task_version) == (failed.definition, 1)
    assert stage.read_run(stage.run(task, kind="manual")).definition["target"]["export_format"] == "json"


def test_a_scheduled_occurrence_has_one_run_and_other_kinds_any_number(stage: Stage) -> None:
    task = stage.task(1)
    stage.run(task)

    def again(session: Session) -> Run | None:
        return runs.create_run(session, locked(session, task), kind="schedule", occurrence=NOW, now=NOW)

    assert stage.write(again) is None
    for kind in ("manual", "manual", "backfill"):
        stage.run(task, kind=kind)  # type: ignore[arg-type]
    assert len(stage.all(Run)) == 4
    with stage.database.read() as session:
        page, more = runs.list_runs(session, task.id or 0, limit=3)
        newest = sorted((run.id for run in stage.all(Run)), reverse=True)
        assert ([run.id for run in page], more) == (newest[:3], True)
        assert runs.queued_count(session, 1) == 4
        assert runs.queued_count(session, 2) == 0


def test_the_going_run_is_the_running_one_first(stage: Stage) -> None:
    task = stage.task(1)
    with stage.database.read() as session:
        assert runs.going_run(session, task.id or 0) is None
    stage.run(task, available_at=NOW + MINUTE)
    second = stage.run(task, kind="manual")
    claim = stage.claimed()
    assert claim.run_id == second
    with stage.database.read() as session:
        going = runs.going_run(session, task.id or 0)
        assert going is not None
        assert going.id == second


def test_an_answer_is_remembered_once(stage: Stage) -> None:
    task = stage.task(1)
    keep = {"client_id": task.client_id, "key": "k", "task_id": task.id, "now": NOW}
    first: dict[str, Any] = {"z": 1, "a": "\0 \ud800 é"}
    assert stage.write(lambda s: tasks.remember_answer(s, **keep, fingerprint="f", answer=first)) is True
    assert stage.write(lambda s: tasks.remember_answer(s, **keep, fingerprint="g", answer={})) is False
    with stage.database.read() as session:
        kept = tasks.recall_answer(session, task.client_id, "k")
        assert kept is not None
        assert (kept.fingerprint, kept.answer, list(kept.answer)) == ("f", first, ["z", "a"])
        assert tasks.recall_answer(session, "another", "k") is None
    assert stage.write(lambda s: tasks.forget_answers(s, before=NOW)) == 0
    assert stage.write(lambda s: tasks.forget_answers(s, before=NOW + MINUTE)) == 1


def test_the_log_is_newest_first_and_paged(stage: Stage) -> None:
    task = stage.task(1)
    run_id = stage.run(task)
    with stage.database.write() as session:
        for number in range(5):
            tasks.log_event(session, task_id=task.id or 0, now=NOW, event="x", message=str(number), run_id=run_id)
    with stage.database.read() as session:
        page = tasks.events(session, task_id=task.id, limit=2, offset=1)
        assert [event.message for event in page] == ["3", "2"]
        assert len(tasks.events(session, run_id=run_id, limit=100)) == 6


def test_instants_come_back_as_they_were(stage: Stage) -> None:
    exact = datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
    task = stage.task(1, due_at=exact)
    assert stage.read_task(task).next_run_at == exact
    far = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    stage.write(lambda s: tasks.edit_task(s, locked(s, task), now=exact, next_run_at=far))
    assert stage.read_task(task).next_run_at == far
    with pytest.raises(Exception, match="offset"):
        stage.task(1, due_at=datetime(2026, 1, 5))  # noqa: DTZ001 -- what must be refused
