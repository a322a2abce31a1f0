"""kill -9 at every fault point of a push: the customer's bucket holds one whole result in the end, or nothing.

A real worker process kills itself at its point; then a healthy one takes the run over, or the run is cancelled and
swept. The bucket is read from outside.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks_service.artifacts import manifest
from tasks_service.artifacts.verification import verify
from tasks_service.fault_points import FAULT_POINTS
from tests import clockwork
from tests.chaos.inside import IDS, Place, write_documents
from tests.chaos.test_killed_at_every_point import CHAIN, SPEED, TARGET, Scene, dies
from tests.databases import Stage, url_of
from tests.destinations import NAME, PREFIX, Bucket, bucket_of
from tests.waiting import eventually

pytestmark = [
    pytest.mark.enable_socket,  # the processes are forked by a server that is spoken to over a Unix socket
    pytest.mark.timeout(180),
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),  # what is asked is what lies in the bucket
]

POINTS = [point for point in FAULT_POINTS if point.startswith("push.")]
PADDING = 300_000
"""So that the file goes to S3 in parts."""

REPLACED = [("gcs", point) for point in POINTS] + [("s3", point) for point in ("push.begun", "push.complete")]
CANCELLED = [("gcs", "push.complete"), ("gcs", "push.verified"), ("s3", "push.complete"), ("s3", "push.finalised")]


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return bucket_of(request.param, request)


@pytest.fixture
def scene(stage: Stage, bucket: Bucket, tmp_path: Path) -> Scene:
    write_documents(tmp_path, padding=PADDING if bucket.settings.kind == "s3" else 0)
    url = url_of(stage.database)
    database = clockwork.fast(stage.database, url, shown=datetime.now(UTC), speed=SPEED)
    database.dispose()
    settings = bucket.told | {"chains": [CHAIN]}
    place = Place(url, database.clock, tmp_path, destinations={NAME: settings})
    target = TARGET | {"destination": {"name": NAME, "path": "here", "overwrite": False}}
    return Scene(stage, place, tmp_path, target=target)


@pytest.mark.parametrize(("bucket", "point"), REPLACED, indirect=["bucket"])
def test_killed_there_the_next_worker_makes_it_whole(scene: Scene, bucket: Bucket, tmp_path: Path, point: str) -> None:
    scene.run()
    dies(scene, "worker", point)
    scene.finish()
    scene.place.sweep(later_by=timedelta(hours=3))
    held = bucket.held()
    [beside] = [name for name in held if name.endswith(".manifest.json")]
    name = beside.removesuffix(".manifest.json")
    assert held.keys() == {name, beside}
    assert name.startswith(f"{PREFIX}/here/")
    assert {json.loads(line)["id"] for line in held[name].splitlines()} == IDS[CHAIN]
    (tmp_path / "file").write_bytes(held[name])
    [verdict] = verify([tmp_path / "file"], manifest.from_bytes(held[beside]))
    assert verdict.differences == ()
    assert bucket.unfinished() == []


@pytest.mark.parametrize(("bucket", "point"), CANCELLED, indirect=["bucket"])
def test_killed_there_and_cancelled_nothing_stays(scene: Scene, bucket: Bucket, point: str) -> None:
    run_id = scene.run()
    dies(scene, "worker", point)
    scene.cancel(run_id)
    with scene.started("worker"):
        eventually(lambda: scene.ledger().runs[0]["state"] == "cancelled", timeout=60, what="the run is cancelled")
    scene.place.sweep(later_by=timedelta(hours=3))
    assert bucket.held() == {}
    assert bucket.unfinished() == []
