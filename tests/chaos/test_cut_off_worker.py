"""A worker cut off from the database in mid-run by what swallows packets: its connections stay, and say nothing.

Neither it nor the database is told. Once it is replaced it publishes nothing, and what it wrote is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasks_service.sample import write_files
from tests.acceptance.conftest import UNTIL
from tests.acceptance.service import Service
from tests.chaos.test_killed_worker import ROWS, Stage
from tests.servers.gcs import Gcs
from tests.servers.tcp_proxy import TcpProxy
from tests.waiting import eventually


@pytest.fixture
def url(postgresql_database: Callable[[], str]) -> str:
    return postgresql_database()


@pytest.fixture
def proxy(url: str) -> Iterator[TcpProxy]:
    parts = urlsplit(url)
    with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
def stage(tmp_path: Path, gcs: Gcs, url: str) -> Iterator[Stage]:
    write_files(tmp_path / "documents", {"products": ROWS}, until=UNTIL)
    bucket = gcs.bucket()
    service = Service(
        tmp_path,
        {
            "TASKS_DATABASE__URL": url,
            "TASKS_EXECUTOR__KIND": "procrastinate",
            "TASKS_STORAGE__KIND": "gcs",
            "TASKS_GCS__BUCKET": bucket,
            "TASKS_GCS__ENDPOINT": gcs.endpoint,
            "TASKS_GCS__CREDENTIALS_FILE": str(gcs.credentials_file),
            "TASKS_GCS__CHUNK_BYTES": str(256 * 1024),
            "TASKS_WORKER__LEASE_SECONDS": "3",
            "TASKS_WORKER__HEARTBEAT_SECONDS": "0.5",
        },
    )
    service.migrate()
    service.start("web")
    service.start("scheduler")
    service.ready()
    yield Stage(service, gcs, bucket)
    service.stop()


def test_it_publishes_nothing_once_replaced_and_its_object_is_swept(stage: Stage, proxy: TcpProxy, url: str) -> None:
    port = urlsplit(url).port
    through = url.replace(f":{port}/", f":{proxy.port}/")
    with stage.worker_in_mid_export(TASKS_DATABASE__URL=through) as (_, gate):
        assert proxy.open > 0
        proxy.swallow()
        gate.release()
    # It goes on writing: the storage has not forgotten it, only the database is silent.
    eventually(lambda: len(stage.objects()) == 2, what="the cut-off worker's uploads are whole")
    theirs = set(stage.objects())
    assert stage.run()["state"] == "running"
    stage.service.start("worker")
    assert stage.api.finished(stage.task_id)["state"]["code"] == "DONE"
    before = stage.run(), stage.api.task(stage.task_id)
    assert [attempt["outcome"] for attempt in before[0]["attempts"]] == ["abandoned", "published"]
    stage.service.start("worker")  # one that sweeps now, rather than in a minute
    eventually(lambda: theirs.isdisjoint(stage.objects()), what="the lost attempt's objects are swept")
    proxy.heal(reset_lost=True)
    stage.heard("run.lease_lost")
    assert (stage.run(), stage.api.task(stage.task_id)) == before
    stage.whole_file_once()
