"""Divided exports while Elasticsearch misbehaves: by two workers, the whole file once or an error of its name.

The faults are those of one reader's exports (test_export_faults.py, test_elasticsearch_faults.py). What they do to a
run with its attempts is looked at here, not what one attempt raises: a fault that passes may cost an attempt or none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks_service import sweeper
from tests.integration.test_elasticsearch_faults import PASSING, some_pages
from tests.integration.test_export_faults import ELASTICSEARCH
from tests.integration.test_parts import Plant, index, planted
from tests.servers.elasticsearch_front import Front, fronted

__all__ = ["index"]

ONCE = {
    "a page emptied by shards that failed",
    "the first page emptied",
    "a page without its last hit",
}
"""Those that befall one page and no other: the attempt fails, and the next one makes the file."""

TURNS = 40
"""More than a run has attempts, and its helper parts to take."""


@pytest.fixture
def front(elasticsearch_url: str) -> Iterator[Front]:
    with fronted(elasticsearch_url) as made:
        yield made


@pytest.fixture
def plant(tmp_path: Path, front: Front, index: str, migrated_sqlite: Path) -> Iterator[Plant]:
    with planted(tmp_path, front.url, index, migrated_sqlite) as made:
        yield made


def carried_out(plant: Plant, run_id: int) -> None:
    """Let two workers at it until it is final, one of which helps the other."""
    ended = threading.Event()

    def help_out() -> None:
        helper = plant.worker("helper")
        while not ended.wait(0.001):
            helper.work_once()

    thread = threading.Thread(target=help_out)
    thread.start()
    try:
        own = plant.worker()
        for _ in range(TURNS):
            own.work_once()
            if plant.read(run_id).state in {"done", "failed"}:
                return
            plant.services.database.clock_offset += timedelta(seconds=61)  # what waits for its next attempt is due
    finally:
        ended.set()
        thread.join()
    raise AssertionError(f"still {plant.read(run_id).state}")


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_ends_in_the_whole_file(plant: Plant, front: Front, fault: str) -> None:
    run_id = plant.run()
    front.fault = some_pages(PASSING[fault])
    carried_out(plant, run_id)
    plant.whole_once(run_id)
    assert plant.part_uploads()


@pytest.mark.parametrize("fault", ELASTICSEARCH)
def test_what_does_not_pass_ends_in_its_error_or_the_whole_file_of_another_attempt(
    plant: Plant, front: Front, fault: str
) -> None:
    run_id = plant.run()
    made, error = ELASTICSEARCH[fault]
    front.fault = made()
    carried_out(plant, run_id)
    run = plant.read(run_id)
    if fault in ONCE:
        plant.whole_once(run_id)
        return
    assert run.state == "failed"
    assert run.reason == error.code, run.detail
    plant.services.database.clock_offset += timedelta(hours=2)
    sweeper.sweep(plant.services.database, plant.storage)  # type: ignore[arg-type]
    assert list(plant.storage.list("")) == []
