"""Results pushed to customers' buckets: whole and checked, once, or nothing at all, however it is stopped.

Each run is a real worker's over a scripted source, on a real database and a local storage; the customer's bucket is a
real server's, by the vendor's own library, with the faults of tests/servers in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from tasks_service import metrics, sweeper
from tasks_service.artifacts import manifest
from tasks_service.artifacts.verification import verify
from tasks_service.database import runs, tasks
from tasks_service.database.models import Run
from tasks_service.destinations import DestinationError
from tasks_service.destinations.pushing import probe
from tasks_service.destinations.registry import Destinations
from tasks_service.errors import LeaseLost, SourceError, StorageUnavailableError
from tasks_service.fault_points import strike_with
from tasks_service.lease import Lease
from tasks_service.progress import Progress
from tasks_service.runner import Worker
from tests.command_line import in_process
from tests.destinations import KINDS, MOMENTS, NAME, PREFIX, Bucket, bucket_of
from tests.house import House, house
from tests.measured import moving
from tests.servers.gcs import Gcs
from tests.storages import HASTE, gcs_place
from tests.waiting import eventually

__all__ = ["house"]

ROWS = b'{"id":1}\n{"id":2}\n{"id":3}\n'


@dataclass
class Scene:
    """A house whose task names a customer's bucket."""

    house: House
    bucket: Bucket

    def aim(self, target: dict[str, Any] | None = None, **members: Any) -> None:
        """Let the run name the destination."""
        destination = {"name": NAME, "path": "{task}/{run}", "overwrite": False} | members

        def change(session: Any) -> None:
            run = session.get_one(Run, self.house.run_id)
            wanted = run.definition["target"] | (target or {}) | {"destination": destination}
            run.definition = run.definition | {"target": wanted}
            session.add(run)

        self.house.write(change)

    def worker(self, destinations: Destinations | None = None, *, name: str = "worker") -> Worker:
        registry = destinations or self.bucket.destinations(hasty=True)
        return Worker(replace(self.house.services, destinations=registry), name=name)

    def work(self, destinations: Destinations | None = None) -> None:
        assert self.worker(destinations).work_once()

    def again(self) -> None:
        """Work on the run's next attempt."""
        self.house.services.database.clock_offset += timedelta(minutes=10)
        self.work()

    def sweep(self, destinations: Destinations | None = None, *, later: timedelta = timedelta(0)) -> int:
        self.house.services.database.clock_offset += later
        registry = destinations or self.bucket.destinations()
        return sweeper.sweep(self.house.services.database, self.house.services.storage, registry)

    @property
    def folder(self) -> str:
        return f"{PREFIX}/{self.house.task_id}/{self.house.run_id}"

    @property
    def name(self) -> str:
        return f"{self.folder}/Product_Export-{self.house.task_id}.jsonl"

    def assert_whole(self, content: bytes = ROWS, *, beside: dict[str, bytes] | None = None) -> None:
        """The file and its manifest lie there, and nothing else, and the run says so."""
        run, _, _ = self.house.read()
        assert (run.state, run.detail) == ("done", None)
        held = self.bucket.held()
        assert held.keys() == {self.name, f"{self.name}.manifest.json"} | (beside or {}).keys()
        assert held[self.name] == content
        assert manifest.from_bytes(held[f"{self.name}.manifest.json"]).files[0].bytes == len(content)
        assert self.bucket.unfinished() == []

    def assert_nothing(self, *, beside: dict[str, bytes] | None = None) -> None:
        """Neither there nor here."""
        self.bucket.faults.clear()
        assert self.bucket.held() == (beside or {})
        assert self.bucket.unfinished() == []
        assert self.house.objects() == []


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, house: House) -> Scene:
    made = Scene(house, bucket_of(request.param, request))
    made.aim()
    return made


@contextmanager
def struck(point: str, act: Callable[[], object], *, after: int = 0) -> Iterator[None]:
    """Do something at a fault point, once, when it was passed so often before."""
    left = [after]

    def strike(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == -1:
                act()

    strike_with(strike)
    try:
        yield
    finally:
        strike_with(None)


@contextmanager
def heard(told: list[Progress]) -> Iterator[None]:
    """Note every progress that is reported."""
    report = Lease.report

    def noting(lease: Lease, progress: Progress) -> None:
        told.append(progress)
        report(lease, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lease, "report", noting)
        yield


# -- whole -------------------------------------------------------------------------------------------------------------


def test_the_file_and_its_manifest_lie_in_the_bucket_when_the_run_is_done(scene: Scene, tmp_path: Path) -> None:
    scene.work()
    scene.assert_whole()
    run, _, [attempt] = scene.house.read()
    assert run.artifact is not None
    told = run.artifact["destination"]
    assert (told["name"], told["uri"]) == (NAME, f"{scene.bucket.place}/{scene.folder}/")
    assert told["files"] == [
        {
            "file_name": run.artifact["file_name"],
            "uri": f"{scene.bucket.place}/{scene.name}",
            "bytes": len(ROWS),
            "crc32c": run.artifact["crc32c"],
        }
    ]
    assert told["manifest"]["crc32c"] == run.artifact["manifest"]["crc32c"]
    assert attempt.push is not None
    assert attempt.push["objects"] == [scene.name, f"{scene.name}.manifest.json"]
    assert len(scene.house.objects()) == 2
    pair = scene.bucket.held()
    (tmp_path / "file").write_bytes(pair[scene.name])
    [verdict] = verify([tmp_path / "file"], manifest.from_bytes(pair[f"{scene.name}.manifest.json"]))
    assert verdict.differences == ()


def test_the_log_of_the_run_says_where(scene: Scene) -> None:
    scene.work()
    with scene.house.services.database.read() as session:
        logged = {one.event: one.message for one in tasks.events(session, run_id=scene.house.run_id, limit=20)}
    assert f"{scene.bucket.place}/{scene.folder}/" in logged["run.pushed"]
    assert list(logged)[:2] == ["run.published", "run.pushed"]


def test_when_it_was_pushed_is_told_by_the_databases_clock(scene: Scene) -> None:
    """This host's is ten minutes behind it."""
    scene.house.services.database.clock_offset = timedelta(minutes=10)
    before = now(scene)
    scene.work()
    run, _, _ = scene.house.read()
    assert run.artifact is not None
    assert before <= datetime.fromisoformat(run.artifact["destination"]["pushed_at"]) <= now(scene)


def test_a_big_file_goes_in_pieces_with_progress(scene: Scene) -> None:
    content = many(scene)
    told: list[Progress] = []
    with heard(told), moving() as moved:
        scene.work(scene.bucket.destinations())
    scene.assert_whole(content)
    assert moved.of(metrics.PUSHES, destination=NAME, outcome="pushed") == 1
    assert moved.of(metrics.PUSH_SECONDS, "_count", destination=NAME) == 1
    assert len(content) < moved.of(metrics.PUSH_BYTES, destination=NAME) < len(content) + 10_000  # the manifest, too
    assert {(one.rows, one.total) for one in told if one.bytes_pushed} == {(scene.bucket.rows, scene.bucket.rows)}
    assert len({one.bytes_pushed for one in told}) > len(content) // (8 * 1024 * 1024) + 1


@pytest.mark.parametrize("target", [{"split": {"rows": 2}}, {"split": {"rows": 2}, "archive": "zip"}])
def test_every_file_of_a_split_result_is_pushed(scene: Scene, target: dict[str, Any]) -> None:
    scene.aim(target)
    scene.work()
    run, _, _ = scene.house.read()
    stem = f"{scene.folder}/Product_Export-{scene.house.task_id}"
    expected = {f"{stem}.zip"} if "archive" in target else {f"{stem}-0001.jsonl", f"{stem}-0002.jsonl"}
    manifests = {name for name in scene.bucket.held() if name.endswith(".manifest.json")}
    assert len(manifests) == 1
    assert scene.bucket.held().keys() - manifests == expected
    assert run.artifact is not None
    assert {one["uri"] for one in run.artifact["destination"]["files"]} == {
        f"{scene.bucket.place}/{name}" for name in expected
    }


def test_the_path_may_tell_the_index_and_the_time_of_the_occurrence(scene: Scene) -> None:
    scene.aim(path="dt={year}-{month}-{day}/{index}")
    scene.work()
    run, _, _ = scene.house.read()
    [file, _] = sorted(scene.bucket.held())
    assert file.startswith(f"{PREFIX}/dt={run.occurrence:%Y-%m-%d}/products/Product_Export-")


def test_a_run_without_a_file_pushes_nothing(scene: Scene) -> None:
    scene.aim({"on_empty": "skip"})
    scene.house.source.pages, scene.house.source.total = [], 0
    scene.work()
    assert scene.house.read()[0].state == "done"
    assert scene.bucket.held() == {}


# -- names that are taken ----------------------------------------------------------------------------------------------


def test_an_object_that_is_somebody_elses_is_not_replaced(scene: Scene) -> None:
    theirs = {f"{scene.name}.manifest.json": b"theirs"}
    scene.bucket.plant(*next(iter(theirs.items())))
    scene.work()
    run, _, [attempt] = scene.house.read()
    assert (run.state, attempt.code) == ("failed", "destination_taken")
    assert f"{scene.bucket.place}/{scene.name}.manifest.json" in (run.detail or "")
    scene.assert_nothing(beside=theirs)


def test_an_object_that_is_somebody_elses_is_replaced_where_the_task_says_so(scene: Scene) -> None:
    scene.aim(overwrite=True)
    scene.bucket.plant(scene.name, b"theirs")
    scene.work()
    scene.assert_whole()


@pytest.mark.parametrize("older", [None, b"older"], ids=["new", "replaced"])
def test_who_writes_there_meanwhile_is_not_overwritten_unseen(scene: Scene, older: bytes | None) -> None:
    scene.aim(overwrite=older is not None)
    if older is not None:
        scene.bucket.plant(scene.name, older)
    with struck("push.complete", lambda: replace_theirs(scene)):
        scene.work()
    _, _, [attempt] = scene.house.read()
    assert (attempt.outcome, attempt.code) == ("retried", "destination_changed")
    scene.assert_nothing(beside={scene.name: b"theirs"})


def replace_theirs(scene: Scene) -> None:
    """Somebody else writes under the name."""
    registry = scene.bucket.destinations()
    destination = registry.get(NAME, chain=1764)
    found = destination.look(scene.name)
    with destination.put(scene.name, content_type="text/plain", size=6, mark="x", replaces=found) as delivery:
        delivery.write(b"theirs")
        delivery.commit()
    registry.close()


# -- faults ------------------------------------------------------------------------------------------------------------


def many(scene: Scene) -> bytes:
    """Let the file be of several pieces; return what it is to hold."""
    rows = [b'{"id":%d,"name":"%s"}' % (n, b"x" * 1000) for n in range(scene.bucket.rows)]
    scene.house.source.pages = [rows[start : start + 500] for start in range(0, len(rows), 500)]
    scene.house.source.total = len(rows)
    return b"".join(row + b"\n" for row in rows)


def every_moment(*, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    moments = [(kind, moment) for kind in KINDS for moment in MOMENTS[kind] if moment not in but]
    params = [pytest.param(kind, moment, id=f"{kind}-{moment}") for kind, moment in moments]
    return pytest.mark.parametrize(("scene", "moment"), params, indirect=["scene"])


def at(scene: Scene, moment: str) -> tuple[str, int]:
    return MOMENTS[scene.bucket.settings.kind][moment]


@every_moment()
def test_what_passes_is_waited_for(scene: Scene, moment: str) -> None:
    content = many(scene)
    operation, skip = at(scene, moment)
    scene.bucket.faults.fail(operation, status=503, times=2, skip=skip)
    scene.work(scene.bucket.destinations())
    scene.assert_whole(content)


@every_moment()
def test_an_answer_that_is_lost_changes_nothing(scene: Scene, moment: str) -> None:
    content = many(scene)
    operation, skip = at(scene, moment)
    scene.bucket.faults.lose_answer(operation, skip=skip)
    scene.work(scene.bucket.destinations())
    # Whose an upload is whose creation was not answered cannot be told; without a part it costs nothing.
    assert scene.bucket.lapse() == (operation == "upload.create")
    scene.assert_whole(content)


@every_moment(but=("manifest: look again",))
def test_what_does_not_pass_leaves_nothing_that_the_next_attempt_does_not_make_whole(
    scene: Scene, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("destinations.s3", "storage.gcs_upload"):
        monkeypatch.setattr(f"tasks_service.{module}._CLEAN_UP", HASTE)
    content = many(scene)
    operation, skip = at(scene, moment)
    scene.bucket.faults.fail(operation, status=503, times=1000, skip=skip)
    scene.work()
    run, _, [attempt] = scene.house.read()
    assert (run.state, attempt.code) == ("queued", "destination_unavailable")
    assert scene.house.objects() == []
    scene.bucket.faults.clear()
    if "look" not in moment:  # what cannot be looked at cannot be taken back either
        assert scene.bucket.held() == {}
        assert scene.bucket.unfinished() == []
    scene.again()
    scene.assert_whole(content)


@every_moment()
def test_what_is_refused_fails_the_run_at_once_says_why_and_leaves_nothing(scene: Scene, moment: str) -> None:
    many(scene)
    operation, skip = at(scene, moment)
    scene.bucket.faults.fail(operation, status=403, times=1000, skip=skip)
    scene.work()
    run, task, [attempt] = scene.house.read()
    assert (run.state, attempt.code, task.state) == ("failed", "destination_refused", "ERROR")
    assert run.detail is not None
    assert run.detail.startswith(f"{NAME}: ")
    assert scene.bucket.settings.bucket in run.detail
    scene.bucket.faults.clear()
    scene.sweep()
    scene.assert_nothing()


def test_a_bucket_that_is_not_there_is_named(scene: Scene) -> None:
    with moving() as moved:
        scene.work(scene.bucket.destinations(bucket="nobody-has-this-one"))
    assert moved.of(metrics.PUSHES, destination=NAME, outcome="failed") == 1
    run, _, _ = scene.house.read()
    assert (run.state, run.reason) == ("failed", "destination_refused")
    assert "nobody-has-this-one" in (run.detail or "")
    assert scene.house.objects() == []


def test_another_checksum_than_was_pushed_is_no_push(scene: Scene) -> None:
    scene.bucket.misreport()
    scene.work()
    _, _, [attempt] = scene.house.read()
    assert (attempt.outcome, attempt.code) == ("retried", "corrupt_upload")
    scene.assert_nothing()


@pytest.mark.parametrize("reported", ["", "AAAAAA==-2"], ids=["none", "of checksums"])
def test_a_service_without_checksums_of_whole_objects_is_refused(
    house: House, request: pytest.FixtureRequest, reported: str
) -> None:
    scene = Scene(house, bucket_of("s3", request))
    scene.aim()
    scene.bucket.faults.misreport("object.head", {"X-Amz-Checksum-Crc32C": reported}, skip=1)
    scene.work()
    run, _, [attempt] = scene.house.read()
    assert (run.state, attempt.code) == ("failed", "destination_refused")
    assert "reports no CRC-32C of whole objects" in (run.detail or "")
    scene.assert_nothing()


def test_a_storage_that_fails_while_it_is_read_is_not_the_destinations_fault(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[bytes]:
        yield ROWS[:9]
        raise StorageUnavailableError

    monkeypatch.setattr(type(scene.house.services.storage), "read", broken)
    scene.work()
    assert scene.house.read()[2][0].code == "storage_unavailable"
    scene.assert_nothing()


def test_bytes_that_differ_from_the_record_are_not_pushed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(scene.house.services.storage), "read", lambda *_: iter([ROWS.replace(b"3", b"4")]))
    appearing: list[str] = []
    with struck("push.complete", lambda: appearing.append("the file")):
        scene.work()
    assert appearing == []
    assert scene.house.read()[2][0].code == "corrupt_upload"
    scene.assert_nothing()


# -- stopped -----------------------------------------------------------------------------------------------------------

POINTS = ["push.begun", "push.chunk", "push.complete", "push.finalised", "push.verified"]


@pytest.mark.parametrize("point", POINTS)
def test_cancelled_in_mid_push_nothing_stays(scene: Scene, point: str) -> None:
    many(scene)
    heard = threading.Event()

    def cancel() -> None:
        scene.house.write(lambda s: runs.request_cancel(s, s.get_one(Run, scene.house.run_id), now=now(scene)))
        with scene.house.services.database.read() as session:
            beaten = session.get_one(Run, scene.house.run_id).lease_until

        def beat() -> bool:
            with scene.house.services.database.read() as session:
                return session.get_one(Run, scene.house.run_id).lease_until != beaten

        eventually(beat, what="the heartbeat hears of it")
        heard.wait(0.1)  # the beat is stored; its answer is on the way

    with struck(point, cancel):
        scene.work(scene.bucket.destinations())
    assert scene.house.read()[0].state == "cancelled"
    scene.assert_nothing()


def now(scene: Scene) -> Any:
    with scene.house.services.database.read() as session:
        return scene.house.services.database.now(session)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_loses_its_run_in_mid_push_hides_nothing_of_who_has_it(scene: Scene, point: str) -> None:
    """It stands still at the point while another takes the run over and publishes it."""
    content = many(scene)
    first = scene.worker(scene.bucket.destinations(), name="first")

    second = scene.worker(scene.bucket.destinations(), name="second")

    def overtaken() -> bool:
        # The first goes on renewing its lease; the second is to be quicker, once.
        scene.house.services.database.clock_offset += timedelta(hours=1)
        return second.work_once()

    def overtake() -> None:
        eventually(overtaken, what="the second has the run")

    with struck(point, overtake):
        first.work_once()
    run, _, attempts = scene.house.read()
    assert [one.outcome for one in attempts] == ["abandoned", "published"]
    assert run.artifact is not None
    scene.assert_whole(content)
    assert attempts[1].push is not None
    registry = scene.bucket.destinations()
    assert {registry.get(NAME, chain=1764).look(name).mark for name in scene.bucket.held()} == {  # type: ignore[union-attr]
        attempts[1].push["mark"]
    }
    scene.bucket.faults.clear()
    scene.sweep(later=timedelta(hours=3))
    assert scene.bucket.faults.count(at(scene, "look")[0]) == 0  # what is published is not even looked at
    assert attempts[0].push is not None
    scene.assert_whole(content)


def test_a_worker_that_hears_that_it_lost_its_run_deletes_nothing(scene: Scene) -> None:
    def hear() -> None:
        raise LeaseLost

    with struck("push.verified", hear):
        scene.work()
    assert scene.bucket.faults.count(scene.bucket.deletion) == 0
    assert scene.bucket.held().keys() == {scene.name}


# -- what is left, and who cleans it up --------------------------------------------------------------------------------


def left_behind(scene: Scene) -> dict[str, bytes]:
    """What a worker leaves whose run is cancelled while it cannot delete: an object that is nobody's."""
    scene.bucket.faults.fail(scene.bucket.deletion, status=503, times=1000)
    with struck("push.verified", lambda: fail_for_good(scene)):
        scene.work()
    scene.bucket.faults.clear()
    assert scene.house.read()[0].state == "failed"
    held = scene.bucket.held()
    assert held.keys() == {scene.name}
    return held


def fail_for_good(scene: Scene) -> None:
    raise SourceError("a fault of the test")


def test_what_could_not_be_taken_back_is_swept(scene: Scene) -> None:
    left_behind(scene)
    scene.bucket.plant(f"{scene.name}.manifest.json", b"theirs")
    assert scene.sweep() == 1
    assert scene.bucket.held() == {f"{scene.name}.manifest.json": b"theirs"}
    scene.sweep(later=timedelta(hours=2))
    assert scene.house.read()[2][0].push_swept_at is not None
    scene.bucket.faults.clear()
    scene.sweep(later=timedelta(hours=2))
    assert scene.bucket.faults.count("object.*") == 0


@pytest.mark.parametrize("point", ["push.begun", "push.complete"])
def test_what_a_push_began_and_could_not_give_up_is_swept_and_nothing_else(
    house: House, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Where uploads stay: what somebody else has begun under the same name goes on."""
    monkeypatch.setattr("tasks_service.destinations.s3._CLEAN_UP", HASTE)
    scene = Scene(house, bucket_of("s3", request))
    scene.aim()
    content = many(scene)
    scene.bucket.faults.fail("upload.abort", status=503, times=1000)
    with struck(point, lambda: fail_for_good(scene)):
        scene.work()
    scene.bucket.faults.clear()
    assert scene.bucket.unfinished() == [scene.name]
    theirs = scene.bucket.destinations().get(NAME, chain=1764)
    with theirs.put(scene.name, content_type="x", size=len(content), mark="x", replaces=None) as delivery:
        delivery.write(content)
        assert scene.sweep() == 1
        assert scene.bucket.unfinished() == [scene.name]
        delivery.commit()
    assert scene.bucket.held() == {scene.name: content}
    assert scene.bucket.unfinished() == []


def test_what_is_left_is_given_up_after_a_week_and_told(scene: Scene) -> None:
    left_behind(scene)
    gone = Destinations()
    scene.sweep(gone, later=timedelta(days=6))
    assert scene.house.read()[2][0].push_swept_at is None
    with structlog.testing.capture_logs() as logs:
        scene.sweep(gone, later=timedelta(days=2))
    [told] = [line for line in logs if line["event"] == "sweep.push_left"]
    assert f"{scene.bucket.place}/{scene.name}" in told["objects"]
    assert scene.house.read()[2][0].push_swept_at is not None


def test_a_destination_that_does_not_answer_is_left_alone_for_a_while(scene: Scene) -> None:
    held = left_behind(scene)
    scene.bucket.faults.fail("object.*", status=403, times=1000)
    clock = [0.0]
    registry = scene.bucket.destinations(clock=lambda: clock[0])
    scene.sweep(registry)
    asked = scene.bucket.faults.count("object.*")
    assert asked > 0
    scene.sweep(registry)
    assert scene.bucket.faults.count("object.*") == asked
    scene.bucket.faults.clear()
    assert scene.bucket.held() == held
    clock[0] += 601
    assert scene.sweep(registry) == 1


def test_another_bucket_by_the_same_name_is_not_cleaned(scene: Scene) -> None:
    held = left_behind(scene)
    assert scene.sweep(scene.bucket.destinations(bucket="another-bucket")) == 0
    assert scene.bucket.held() == held


def test_deleting_the_task_and_the_end_of_retention_leave_the_customers_objects(scene: Scene) -> None:
    scene.work()
    held = scene.bucket.held()
    scene.sweep(later=timedelta(days=40))
    assert scene.house.objects() == []
    assert scene.bucket.held() == held


@pytest.mark.parametrize("settings", [{}, {"chains": [1]}], ids=["removed", "another chain's"])
def test_a_destination_that_is_gone_fails_the_run_before_anything_is_read(
    scene: Scene, settings: dict[str, Any]
) -> None:
    scene.work(scene.bucket.destinations(**settings) if settings else Destinations())
    run, _, [attempt] = scene.house.read()
    assert (run.state, attempt.code) == ("failed", "destination_gone")
    assert scene.house.source.opened == 0


def test_from_one_bucket_to_another(scene: Scene, gcs: Gcs) -> None:
    """The service's own storage is a bucket too, beside the customer's."""
    ours = gcs_place(gcs)
    with ours.closing:
        content = many(scene)
        services = replace(scene.house.services, storage=ours.storage, destinations=scene.bucket.destinations())
        assert Worker(services, name="worker").work_once()
        scene.assert_whole(content)
        assert len(list(ours.storage.list(""))) == 2


def test_the_doctor_tries_every_destination(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_process(tmp_path, monkeypatch, capsys) as command:
        for name, value in scene.bucket.told.items():
            told = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            monkeypatch.setenv(f"TASKS_DESTINATIONS__ACME__{name.upper()}", told)
        command("db", "upgrade")
        said = f"destination {NAME}         {scene.bucket.place}: an object was written, found and deleted."
        assert said in command("doctor").out
        monkeypatch.setenv("TASKS_DESTINATIONS__ACME__BUCKET", "nobody-has-this-one")
        ended = command("doctor")
        assert ended.code == 1
        assert "nobody-has-this-one" in ended.out


def test_the_doctors_probe_needs_every_right_and_leaves_nothing(scene: Scene) -> None:
    destination = scene.bucket.destinations(hasty=True).get(NAME, chain=1764)
    probe(destination, PREFIX)
    assert scene.bucket.held() == {}
    assert scene.bucket.unfinished() == []
    rights = [scene.bucket.creation, scene.bucket.deletion]
    for operation in rights + (["upload.create", "upload.abort"] if scene.bucket.settings.kind == "s3" else []):
        scene.bucket.faults.fail(operation, status=403, times=1000)
        with pytest.raises(DestinationError, match=scene.bucket.settings.bucket):
            probe(destination, PREFIX)
        scene.bucket.faults.clear()
