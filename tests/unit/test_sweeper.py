"""The sweeper deletes what is nobody's, keeps what is somebody's, and bears a storage that does not answer."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest

from tasks_service import metrics, sweeper
from tasks_service.database import tasks
from tasks_service.database.models import Run
from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError, TransientError
from tests.house import House, house
from tests.measured import moving

__all__ = ["house"]


def sweep(house: House, later: timedelta = timedelta(0)) -> int:
    house.services.database.clock_offset += later
    return sweeper.sweep(house.services.database, house.services.storage)


def orphan(house: House) -> str:
    """What a worker leaves that finished its upload after its run was taken over and failed."""
    house.source.total = 99
    house.worker.work_once()
    _, _, [attempt] = house.read()
    assert attempt.object_name is not None
    with house.services.storage.upload(attempt.object_name, content_type="text/csv") as upload:
        upload.write(b"late")
        upload.commit()
    return attempt.object_name


def test_a_late_object_of_an_ended_attempt_is_deleted_whenever_it_appears(house: House) -> None:
    name = orphan(house)
    assert sweep(house) == 1
    assert house.objects() == []
    with house.services.storage.upload(name, content_type="text/csv") as upload:
        upload.commit()
    assert sweep(house, timedelta(minutes=30)) == 1
    assert sweep(house, timedelta(hours=1)) == 0
    assert [attempt.swept_at is not None for attempt in house.read()[2]] == [True]


def test_everything_an_ended_attempt_left_in_its_folder_goes_and_nothing_beside_it(house: House) -> None:
    name = orphan(house)
    folder, _, file = name.rpartition("/")
    for other in (f"{folder}/{file}.manifest.json", f"{folder}1/{file}"):
        with house.services.storage.upload(other, content_type="text/csv") as upload:
            upload.commit()
    with moving() as moved:
        assert sweep(house) == 2
    assert (moved.of(metrics.SWEPT, kind="orphan"), moved.of(metrics.SWEEPS, outcome="ok")) == (2, 1)
    assert [one.name for one in house.objects()] == [f"{folder}1/{file}"]


def test_a_published_file_stays_until_it_expires(house: House) -> None:
    house.worker.work_once()
    assert sweep(house, timedelta(days=29)) == 0
    assert len(house.objects()) == 2
    with moving() as moved:
        assert sweep(house, timedelta(days=2)) == 2
    assert moved.of(metrics.SWEPT, kind="expired") == 2
    assert house.objects() == []
    assert house.read()[0].file_deleted_at is not None
    assert sweep(house) == 0


def test_the_file_of_a_deleted_task_goes_at_once(house: House) -> None:
    house.worker.work_once()

    def delete(session: object) -> None:
        task = tasks.get_task(session, house.task_id, chain=None, lock=True)  # type: ignore[arg-type]
        assert task is not None
        tasks.delete_task(session, task, now=house.services.database.now(session))  # type: ignore[arg-type]

    house.write(delete)
    assert sweep(house) == 2
    assert house.objects() == []


@pytest.mark.parametrize("error", [StorageUnavailableError, StorageError])
def test_a_storage_that_fails_is_asked_again_another_time(
    house: House, monkeypatch: pytest.MonkeyPatch, error: type[ServiceError]
) -> None:
    orphan(house)

    def fails(*_: object, **__: object) -> bool:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(house.services.storage, "delete", fails)
        with contextlib.suppress(TransientError):  # one that does not answer ends the sweep
            assert sweep(house, timedelta(hours=2)) == 0
            assert error is StorageError
    assert sweep(house) == 1
    assert house.objects() == []


def test_an_idempotency_key_is_forgotten_after_two_days(house: House) -> None:
    database = house.services.database
    with database.write() as session:
        assert isinstance(session.get(Run, house.run_id), Run)
        tasks.remember_answer(
            session, now=database.now(session), client_id="c", key="k", fingerprint="f", task_id=1, answer={}
        )
    sweep(house, timedelta(days=1))
    with database.read() as session:
        assert tasks.recall_answer(session, "c", "k") is not None
    sweep(house, timedelta(days=1, minutes=1))
    with database.read() as session:
        assert tasks.recall_answer(session, "c", "k") is None
