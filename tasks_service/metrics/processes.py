"""Where the values of this process are kept, so that any process of the host can show those of all.

What lives here: the files behind the counters, through prometheus_client's own multi-process mode, and who may write
to which. What does not: what is counted (`tasks_service.metrics`), and who asks (scrape.py).

A process takes the lowest place that nobody holds, by a lock on a file that the kernel gives back however the process
ends, and goes on counting in the files of that place. So nothing counted by a process that was killed is lost, no sum
ever falls (Prometheus would take that for a restart and count everything again), and there are as many files as there
were processes at one time, not as many as there ever were. Process ids could not do this: two containers have the same.
A process that keeps no files (a command, a test, a directory that cannot be written) counts in its memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

if TYPE_CHECKING:
    from tasks_service.metrics.kinds import Metric

log = structlog.stdlib.get_logger(__name__)

# prometheus_client's inner modules have no types.
Untyped: TypeAlias = Any

_PLACES = 1024
_KINDS = ("counter", "histogram")
# Reserved on the disk: writing to a mapped page that finds the disk full ends the process. Every label there can be
# needs less.
_FILE_BYTES = 1024 * 1024


class Values:
    """The values of this process: in its memory until `keep_in`, in files from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._values: dict[tuple[str, ...], Any] = {}
        self._registry: Any = None
        self._directory: Path | None = None

    def of(self, metric: Metric, labels: Mapping[str, str]) -> Any:  # noqa: ANN401 -- prometheus_client's
        """Return the value of a metric under these labels.

        Raises:
            ValueError: these are not the metric's labels.
        """
        if len(labels) != len(metric.labels) or not all(name in labels for name in metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
        key = (metric.name, *[labels[name] for name in metric.labels])
        return self._values.get(key) or self._make(metric, key)

    def keep_in(self, state_directory: Path, metrics: Iterable[Metric], *, process: str) -> None:
        """Keep values in files of this host from now on, those without labels and those that start from zero.

        Without a directory to write to, says so in the log and goes on in memory: nothing is worth less than a run.
        """
        place = _Place(directory_of(state_directory), process)
        try:
            place.directory.mkdir(parents=True, exist_ok=True)
            place.number()
        except OSError as error:
            log.warning("metrics.not_shared", directory=str(place.directory), error=error.strerror)
            return
        import prometheus_client.values

        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(place.directory)  # the library takes it from nowhere else
        library: Untyped = prometheus_client.values
        library.ValueClass = library.MultiProcessValue(place.number)
        with self._lock:
            self._made, self._values, self._registry, self._directory = {}, {}, None, place.directory
        for metric in metrics:
            if not metric.labels:
                self.of(metric, {})
            for value in metric.starts:
                self.of(metric, {metric.labels[0]: value})

    def collect(self, known: Iterable[Metric]) -> list[Any]:
        """Return what every process of this host has counted, or this one alone where it keeps no files.

        Families of prometheus_client, by name; what only another version knows is left out.
        """
        names = {metric.name.removesuffix("_total") for metric in known}
        if self._directory is not None:
            found = read(self._directory)
        else:
            found = list(self._registry.collect()) if self._registry is not None else []
        for family in found:
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        return sorted((family for family in found if family.name in names), key=lambda family: family.name)

    def processes(self) -> Mapping[str, int]:
        """Return how many processes of this host are there and count, by what they are; none where they keep no files.

        The kernel says so: whoever ended, however it did, holds its place no more. One that is stopped is still there.
        """
        return Tally(holders(self._directory)) if self._directory is not None else {}

    def _make(self, metric: Metric, key: tuple[str, ...]) -> Any:  # noqa: ANN401
        from prometheus_client import CollectorRegistry

        with self._lock:
            if self._registry is None:
                self._registry = CollectorRegistry()
            if metric.name not in self._made:
                self._made[metric.name] = metric.make(self._registry)
            made = self._made[metric.name]
            value = self._values[key] = made.labels(*key[1:]) if metric.labels else made
            return value


class _Place:
    """A number that one process of the host holds for its life, and the files that go with it."""

    def __init__(self, directory: Path, holder: str) -> None:
        self.directory = directory
        self._holder = holder
        self._number = ""
        self._process = 0
        self._locks: list[int] = []

    def number(self) -> str:
        """Return this process's number; a child that was forked takes one of its own."""
        if self._process != os.getpid():
            self._number, self._process = self._take(), os.getpid()
        return self._number

    def _take(self) -> str:
        for number in range(1, _PLACES + 1):
            lock = os.open(self.directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self._locks.append(lock)
            os.ftruncate(lock, 0)
            os.write(lock, self._holder.encode())
            for kind in _KINDS:
                _reserve(self.directory / f"{kind}_{number}.db")
            return str(number)
        raise OSError(0, f"{_PLACES} processes count there already")


def directory_of(state_directory: Path) -> Path:
    """Return where the processes of this host keep their values: several hosts may share the state directory."""
    return state_directory.absolute() / "metrics" / socket.gethostname()


def holders(directory: Path) -> Iterable[str]:
    """Return what each process that holds a place is."""
    for path in directory.glob("*.lock"):
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield lock.read()


def read(directory: Path) -> list[Any]:
    """Return the sums of all files in a directory, as families of prometheus_client."""
    import prometheus_client.multiprocess

    library: Untyped = prometheus_client.multiprocess
    files = [str(path) for path in directory.glob("*.db") if _sound(path)]
    return list(library.MultiProcessCollector.merge(files, accumulate=True))


def _reserve(path: Path) -> None:
    """Let a file have its space on the disk; one that is damaged (a power cut writes halves) begins anew."""
    if path.exists() and not _sound(path):
        log.warning("metrics.file_damaged", file=path.name)
        path.unlink()
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)


def _sound(path: Path) -> bool:
    import prometheus_client.mmap_dict

    library: Untyped = prometheus_client.mmap_dict
    try:
        return all(json.loads(key) for key, _, _, _ in library.MmapedDict.read_all_values_from_file(str(path)))
    except (OSError, RuntimeError, ValueError, struct.error):
        return False


values = Values()
"""Those of this process."""
