"""Every way an attempt can end, on the real database and storage: what is recorded, and what is left behind."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session

from tasks_service.config import WorkerSettings
from tasks_service.database import clients, runs
from tasks_service.database.models import Run, Task
from tasks_service.database.statements import identity
from tasks_service.errors import (
    IncompleteError,
    SourceError,
    SourceUnavailableError,
    StorageUnavailableError,
)
from tasks_service.runner import Worker, retry_delay
from tests.house import House, house

__all__ = ["house"]


def test_a_run_is_published_whole_with_everything_known_of_it(house: House) -> None:
    assert house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, task.state, attempt.outcome) == ("done", "DONE", "published")
    assert task.result_run_id == run.id
    assert run.artifact is not None
    manifest, stored = sorted(house.objects(), key=lambda one: one.size, reverse=True)
    assert (run.artifact["rows"], run.artifact["generation"]) == (3, stored.generation)
    assert (run.artifact["manifest"]["object"], run.artifact["manifest"]["bytes"]) == (manifest.name, manifest.size)
    assert run.artifact["file_name"] == f"Product_Export-{task.id}.jsonl"
    assert run.artifact["bytes"] == stored.size == len(b'{"id":1}\n{"id":2}\n{"id":3}\n')
    assert run.query == {"match_all": {}}
    assert run.expires_at is not None
    assert not house.worker.work_once()
    assert house.source.opened == house.source.closed == 1


def test_a_transient_error_is_tried_again_and_a_second_time_fails_for_good(house: House) -> None:
    house.source.error = SourceUnavailableError()
    house.worker.work_once()
    run, task, _ = house.read()
    assert (run.state, run.attempts, task.state) == ("queued", 1, "INPROGRESS")
    assert house.objects() == []
    house.services.database.clock_offset += timedelta(seconds=10)
    house.worker.work_once()
    run, task, attempts = house.read()
    assert (run.state, run.reason, task.state, task.state_reason) == (
        "failed",
        "source_unavailable",
        "ERROR",
        "source_unavailable",
    )
    assert [a.outcome for a in attempts] == ["retried", "failed"]


def test_a_retry_that_succeeds_publishes(house: House) -> None:
    house.source.error = SourceUnavailableError()
    house.worker.work_once()
    house.source.error = None
    house.services.database.clock_offset += timedelta(seconds=10)
    house.worker.work_once()
    run, task, attempts = house.read()
    assert (run.state, task.state, [a.outcome for a in attempts]) == ("done", "DONE", ["retried", "published"])


@pytest.mark.parametrize("error", [SourceError("no such index")])
def test_a_permanent_error_fails_at_once(house: House, error: Exception) -> None:
    house.source.error = error
    house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, task.state, attempt.outcome, attempt.code) == ("failed", "ERROR", "failed", "source_refused")
    assert house.objects() == []


def test_an_unexpected_error_is_recorded_without_its_text(house: House) -> None:
    house.source.error = ZeroDivisionError("secret text of a backend")
    house.worker.work_once()
    run, _, [attempt] = house.read()
    assert (run.state, attempt.code) == ("queued", "internal_error")
    assert "secret" not in json.dumps([attempt.detail, run.detail])


@pytest.mark.parametrize("total", [2, 4])
def test_more_or_fewer_rows_than_the_snapshot_holds_is_no_file(house: House, total: int) -> None:
    house.source.total = total
    house.worker.work_once()
    _, _, [attempt] = house.read()
    assert (attempt.outcome, attempt.code) == ("retried", IncompleteError.code)
    assert house.objects() == []


def test_cancelled_in_mid_run(house: House) -> None:
    told = threading.Event()
    renewed = threading.Event()

    def meanwhile() -> None:
        if not told.is_set():
            told.set()
            house.write(lambda s: runs.request_cancel(s, s.get_one(Run, house.run_id), now=datetime.now(UTC)))
        # The heartbeat hears of it within a beat; until then this reader is as slow as it takes.
        renewed.wait(0.2)

    house.source.meanwhile = meanwhile
    house.source.pages = [[b'{"id":%d}' % n] for n in range(500)]
    house.source.total = 500
    house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, task.state, task.state_reason) == ("cancelled", "ERROR", "cancelled")
    assert attempt.outcome == "cancelled"
    assert house.objects() == []
    assert house.source.closed == 1


def test_a_run_taken_over_in_mid_run_is_left_alone_and_its_object_deleted(house: House) -> None:
    """The lease lapses and another worker finishes between the last byte and the publication."""
    other = Worker(house.services, name="other")
    rounds = []

    def meanwhile() -> None:
        if not rounds:
            rounds.append(1)
            for _ in range(10):
                # The beat that tells the total may come in between, and renew the lease at the later time.
                house.services.database.clock_offset += timedelta(minutes=5)
                if other.work_once():
                    return
            pytest.fail("the run was never free to be taken over")

    house.worker._settings = house.worker._settings.model_copy(update={"heartbeat_seconds": 30.0})
    house.source.meanwhile = meanwhile
    house.worker.work_once()
    run, task, attempts = house.read()
    assert (run.state, task.state) == ("done", "DONE")
    assert [(a.worker, a.outcome) for a in attempts] == [("worker", "abandoned"), ("other", "published")]
    assert run.artifact is not None
    assert {o.name for o in house.objects()} == {run.artifact["object"], run.artifact["manifest"]["object"]}


def test_draining_without_grace_hands_the_run_back_and_burns_no_attempt(house: House) -> None:
    house.worker._settings = house.worker._settings.model_copy(update={"grace_seconds": 0.0})
    house.source.meanwhile = lambda: setattr(house.worker._drain, "since", 0.0)
    house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, run.attempts, attempt.outcome) == ("queued", 0, "interrupted")
    assert task.state == "INPROGRESS"
    assert house.objects() == []


def test_a_worker_that_drains_finishes_its_run_and_takes_no_other(house: House) -> None:
    with house.services.database.write() as session:
        now = house.services.database.now(session)
        made = runs.create_run(session, session.get_one(Task, house.task_id), kind="manual", occurrence=now, now=now)
        assert made is not None
        made.chain, made.serial = made.chain + 1, False  # neither its chain nor its task keeps it waiting
        waiting = identity(made)
    stop = threading.Event()
    house.source.meanwhile = stop.set
    house.worker.run(stop)
    run, _, [attempt] = house.read()
    assert (run.state, attempt.outcome) == ("done", "published")
    with house.services.database.read() as session:
        other = session.get_one(Run, waiting)
        assert (other.state, other.claims, list(runs.attempts(session, waiting))) == ("queued", 0, [])


def test_a_source_without_progress_is_ended(house: House) -> None:
    house.worker._settings = house.worker._settings.model_copy(update={"stall_timeout_seconds": 0.01})
    still = threading.Event()
    house.source.meanwhile = lambda: still.wait(2) and None
    house.worker.work_once()
    _, _, [attempt] = house.read()
    assert (attempt.outcome, attempt.code) == ("retried", "stalled")


def test_a_removed_clients_run_fails_and_its_schedule_pauses(house: House) -> None:
    def remove(session: Session) -> None:
        [client] = clients.list_clients(session)
        clients.remove_client(session, client.id, now=datetime.now(UTC))

    house.write(remove)
    house.worker.work_once()
    run, task, _ = house.read()
    assert (run.state, run.reason) == ("failed", "authority_lost")
    assert task.paused_at is not None
    assert house.source.opened == 0


@pytest.mark.parametrize(
    ("on_empty", "state", "file"), [("file", "done", True), ("skip", "done", False), ("error", "failed", False)]
)
def test_no_rows(house: House, on_empty: str, state: str, file: bool) -> None:  # noqa: FBT001
    def ask(session: Session) -> None:
        run = session.get_one(Run, house.run_id)
        run.definition = {**run.definition, "target": {**run.definition["target"], "on_empty": on_empty}}
        session.add(run)

    house.write(ask)
    house.source.pages, house.source.total = [], 0
    house.worker.work_once()
    run, _, _ = house.read()
    assert (run.state, run.artifact is not None, bool(house.objects())) == (state, file, file)


def test_a_storage_that_fails_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def upload(*_: object, **__: object) -> Iterator[None]:
        raise StorageUnavailableError
        yield

    monkeypatch.setattr(house.services.storage, "upload", upload)
    house.worker.work_once()
    _, _, [attempt] = house.read()
    assert (attempt.outcome, attempt.code) == ("retried", "storage_unavailable")


def test_the_delay_before_a_retry_is_jittered_doubled_and_capped(house: House) -> None:
    settings = house.services.settings.worker.model_copy(update={"retry_base_seconds": 5.0, "retry_cap_seconds": 300.0})
    ceilings = [retry_delay(n, settings, lambda: 1.0).total_seconds() for n in range(1, 9)]
    assert ceilings == [5, 10, 20, 40, 80, 160, 300, 300]
    assert retry_delay(10**6, settings, lambda: 0.5).total_seconds() == 150
    assert retry_delay(3, settings, lambda: 0.0).total_seconds() == 0


@given(
    failures=st.integers(1, 10_000),
    base=st.floats(0.001, 3600),
    cap=st.floats(0.001, 86_400),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_any_delay_lies_anywhere_under_its_ceiling(failures: int, base: float, cap: float, drawn: float) -> None:
    """Full jitter: a share of the ceiling that is the draw itself, so that retries spread over all of it."""
    settings = WorkerSettings(retry_base_seconds=base, retry_cap_seconds=cap)
    ceiling = retry_delay(failures, settings, lambda: 1.0).total_seconds()
    assert ceiling == pytest.approx(min(cap, base * 2.0 ** min(failures - 1, 30)), abs=1e-5)
    delay = retry_delay(failures, settings, lambda: drawn).total_seconds()
    assert delay == pytest.approx(drawn * ceiling, abs=1e-5)


def test_a_part_that_asks_to_be_left_alone_is(house: House) -> None:
    house.source.error = SourceUnavailableError(retry_after=120)
    house.worker.work_once()
    run, _, [attempt] = house.read()
    assert attempt.ended_at is not None
    assert (run.state, attempt.outcome) == ("queued", "retried")
    assert run.available_at - attempt.ended_at == pytest.approx(timedelta(seconds=120), abs=timedelta(seconds=1))


def test_but_not_for_longer_than_an_hour(house: House) -> None:
    house.source.error = SourceUnavailableError(retry_after=10.0**9)
    house.worker.work_once()
    run, _, [attempt] = house.read()
    assert attempt.ended_at is not None
    assert run.available_at - attempt.ended_at == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=1))


@pytest.mark.parametrize(
    ("trigger", "code"),
    [
        ({"segment_id": 7}, "segment_gone"),
        ({"segment_id": 7, "segment_version": 2, "segment": {"index": "products"}}, "segment_refused"),
    ],
)
def test_a_saved_segment_that_is_gone_or_fits_no_more_exports_nothing(
    house: House, trigger: dict[str, object], code: str
) -> None:
    def name(session: Session) -> None:
        run = session.get_one(Run, house.run_id)
        run.definition = {**run.definition, "trigger": {**run.definition["trigger"], **trigger}}
        session.add(run)

    house.write(name)
    house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, run.reason, attempt.code, task.state) == ("failed", code, code, "ERROR")
    assert house.source.opened == 0
    assert house.objects() == []


@pytest.mark.parametrize(
    "part", [{"trigger": {"segment": {"index": "products"}}}, {"target": {"destination": {"name": "theirs"}}}]
)
def test_a_zone_that_is_gone_fails_for_good_where_rows_or_paths_need_its_days(
    house: House, part: dict[str, dict[str, object]]
) -> None:
    def remove(session: Session) -> None:
        run = session.get_one(Run, house.run_id)
        found = run.definition
        trigger = found["trigger"] | {"timezone": "Gone/Zone"} | part.get("trigger", {})
        run.definition = found | {"trigger": trigger, "target": found["target"] | part.get("target", {})}
        session.add(run)

    house.write(remove)
    house.worker.work_once()
    run, task, [attempt] = house.read()
    assert (run.state, run.reason, attempt.code, task.state) == ("failed", "zone_gone", "zone_gone", "ERROR")
    assert "no zone `Gone/Zone` any more" in (run.detail or "")
    assert house.source.opened == 0
    assert not house.worker.work_once()
