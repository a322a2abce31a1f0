"""Counting: what killed processes counted stays, places are used again, no sum falls, nothing undone is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks_service import metrics
from tasks_service.config import DatabaseSettings
from tasks_service.database.counting import when_committed
from tasks_service.database.engine import Database
from tasks_service.metrics.processes import Values, directory_of, holders
from tests import measured

ROOT = Path(__file__).parents[2]
COUNTS = """
import sys
from pathlib import Path
from tasks_service import metrics
metrics.begin(Path(sys.argv[1]), "worker")
for _ in range(int(sys.argv[2])):
    metrics.CLAIMS.count()
metrics.FIRING_LATENESS.observe(0.02)
metrics.ATTEMPTS.count(outcome="published", code="")
print("counted", file=sys.stderr, flush=True)
sys.stdin.read()
"""


@contextmanager
def counting(state: Path, times: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has counted and now waits, until it is killed without a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", COUNTS, str(state), str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # where a process without settings logs
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == b"counted\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stderr.close()


def test_what_killed_processes_counted_stays_and_their_places_are_used_again(tmp_path: Path) -> None:
    with counting(tmp_path, 3), counting(tmp_path, 4):
        assert measured.by_installation(tmp_path).of(metrics.CLAIMS) == 7
    for round_ in range(1, 4):
        with counting(tmp_path, 10):
            counted = measured.by_installation(tmp_path)
            assert counted.of(metrics.CLAIMS) == 7 + 10 * round_
            assert counted.of(metrics.FIRING_LATENESS, "_count") == 2 + round_
            assert counted.of(metrics.ATTEMPTS, outcome="published", code="") == 2 + round_
    files = {path.name for path in directory_of(tmp_path).iterdir()}
    assert files == {f"{name}_{n}.db" for name in ("counter", "histogram") for n in (1, 2)} | {"1.lock", "2.lock"}


def test_the_kernel_says_which_processes_are_there(tmp_path: Path) -> None:
    with counting(tmp_path, 1), counting(tmp_path, 1):
        assert list(holders(directory_of(tmp_path))) == ["worker", "worker"]
    assert list(holders(directory_of(tmp_path))) == []
    with counting(tmp_path, 1):
        assert list(holders(directory_of(tmp_path))) == ["worker"]


def test_what_never_happened_is_0_so_that_its_first_time_is_seen(tmp_path: Path) -> None:
    with counting(tmp_path, 1):
        counted = measured.by_installation(tmp_path)
    for metric in metrics.ALL:
        assert len(metric.labels) == 1 or not metric.starts
        for value in metric.starts:
            key = (metric.name, frozenset({(metric.labels[0], value)}))
            assert counted.samples[key] == 0


def test_a_file_that_a_power_cut_damaged_begins_anew_and_the_others_count_on(tmp_path: Path) -> None:
    with counting(tmp_path, 3), counting(tmp_path, 4):
        pass
    damaged = directory_of(tmp_path) / "counter_1.db"
    damaged.write_bytes(damaged.read_bytes()[:8] + b"\xff" * 4096)
    assert measured.by_installation(tmp_path).of(metrics.CLAIMS) in {3, 4}
    with counting(tmp_path, 10):
        assert measured.by_installation(tmp_path).of(metrics.CLAIMS) in {13, 14}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no space for files")
def test_files_have_their_space_on_the_disk_before_they_are_mapped(tmp_path: Path) -> None:
    with counting(tmp_path, 1):
        for path in directory_of(tmp_path).glob("*.db"):
            assert path.stat().st_blocks * 512 >= 1024 * 1024


def test_a_process_that_may_not_write_there_counts_in_its_memory(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file where a directory should be")
    own = Values()
    own.keep_in(tmp_path, metrics.ALL, process="worker")
    own.of(metrics.CLAIMS, {}).inc()
    [family] = own.collect(metrics.ALL)
    assert [(sample.name, sample.value) for sample in family.samples] == [(metrics.CLAIMS.name, 1.0)]


def test_a_forked_child_counts_in_a_place_of_its_own(tmp_path: Path) -> None:
    code = COUNTS.replace(
        "sys.stdin.read()", "import os\nif os.fork() == 0:\n    metrics.CLAIMS.count(5)\n    os._exit(0)\nos.wait()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "2"], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    assert measured.by_installation(tmp_path).of(metrics.CLAIMS) == 7
    assert len(list(directory_of(tmp_path).glob("counter_*.db"))) == 2


def test_labels_are_exactly_those_that_are_declared() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        metrics.ATTEMPTS.count(outcome="published")
    with pytest.raises(ValueError, match="has the labels"):
        metrics.CLAIMS.count(chain="1")


def test_names_are_as_prometheus_wants_them() -> None:
    for metric in metrics.ALL:
        assert metric.name.startswith("tasks_service_")
        assert metric.name.endswith("_total") == isinstance(metric, metrics.Counter), metric.name
        assert metric.name.endswith("_seconds") or not isinstance(metric, metrics.Histogram), metric.name
        assert len(metric.meaning) <= 80, "the text is kept beside every value"
        assert not {"id", "task", "run", "client"} & set(metric.labels)
    assert len({metric.name for metric in metrics.ALL}) == len(metrics.ALL)


def test_what_is_rolled_back_was_not_counted(tmp_path: Path) -> None:
    database = Database(DatabaseSettings.model_validate({"url": f"sqlite:///{tmp_path}/x.db"}))
    with measured.moving() as moved:
        with database.write() as session:
            when_committed(session, metrics.RESCUES.count)
            assert moved.of(metrics.RESCUES) == 0
        assert moved.of(metrics.RESCUES) == 1
        with suppress(RuntimeError), database.write() as session:
            when_committed(session, metrics.RESCUES.count)
            raise RuntimeError
        assert moved.of(metrics.RESCUES) == 1
    database.dispose()
