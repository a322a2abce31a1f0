"""A result pushed to its task's destination: file by file, the manifest last, each whole and checked, or taken back.

The bytes are those that lie sealed and verified in the service's own storage, read again, held against the run's record
on the way, and against what the destination reports at the end. Names are the same in every attempt of a run, so that
there is one set of objects however often it was tried: what an earlier attempt of the run left is replaced, and nobody
else's object unless the task says so (`overwrite`). Called by delivering.py, between sealing and publishing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from tasks_service import metrics
from tasks_service.artifacts import Linked, file_links, manifest_link
from tasks_service.artifacts.writing import Meter
from tasks_service.destinations import Arrived, Delivery, Destination, DestinationError, DestinationTakenError
from tasks_service.destinations.paths import checked_object, folder_of
from tasks_service.errors import CorruptUploadError, LeaseLost, ServiceError, StopAttempt
from tasks_service.fault_points import fault_point
from tasks_service.order import ExportOrder
from tasks_service.progress import Progress, Report
from tasks_service.storage import Storage

log = structlog.stdlib.get_logger(__name__)

Document = dict[str, Any]

_MARK_BYTES = 16
_LARGE_BYTES = 1 << 30
"""Begun in another way than a small object, wherever there are two."""


@dataclass(frozen=True)
class Push:
    """What an attempt is going to put where: noted before the first byte, so that it is found if the worker dies.

    Attributes:
        destination: its name in the configuration.
        place: the bucket as a URI.
        folder: in which all objects lie, without a slash at its end.
        mark: what this attempt's objects are known by.
        overwrite: whether objects that are not of this run may be replaced.
    """

    destination: str
    place: str
    folder: str
    mark: str
    overwrite: bool
    files: tuple[Linked, ...]

    def name_of(self, file: Linked) -> str:
        """Return the name of a file's object."""
        return f"{self.folder}/{file.file_name}"

    def uri_of(self, file: Linked) -> str:
        """Return the address of a file's object."""
        return f"{self.place}/{self.name_of(file)}"

    @property
    def note(self) -> Document:
        """What the attempt's record holds of it: enough to find its objects and know them (`left_behind`)."""
        names = [self.name_of(file) for file in self.files]
        return {"destination": self.destination, "place": self.place, "mark": self.mark, "objects": names}


def plan_push(order: ExportOrder, artifact: Mapping[str, Any], destination: Destination, prefix: str) -> Push:
    """Return what is to be pushed: every file of the result, and its manifest as the last.

    Raises DestinationError where a name is none that objects may have.
    """
    wanted = order.target["destination"]
    manifest = manifest_link(artifact)
    push = Push(
        destination=wanted["name"],
        place=destination.place,
        folder=folder_of(prefix, wanted["path"], order),
        mark=secrets.token_hex(_MARK_BYTES),
        overwrite=wanted["overwrite"],
        files=(*file_links(artifact), *([] if manifest is None else [manifest])),
    )
    for file in push.files:
        checked_object(push.name_of(file), wanted["path"])
    return push


def push_files(
    push: Push,
    storage: Storage,
    destination: Destination,
    report: Report,
    written: Progress,
    former: Collection[str],
    clock: Callable[[], datetime],
    note: Callable[[Document], None],
) -> Document:
    """Push every file, or leave nothing of this push; return what the run's artifact says of it.

    Args:
        push: what goes where.
        storage: what it is read from.
        destination: where it goes.
        report: told of every piece, counted on `written`; raises what ends the attempt.
        written: how far the attempt was before.
        former: the marks of the run's earlier attempts, whose objects may be replaced.
        clock: the database's; this host's may be wrong.
        note: stores the note of the push anew, with what was begun since; raises what ends the attempt.

    Raises DestinationTakenError, DestinationError, DestinationUnavailableError, DestinationChangedError,
    CorruptUploadError, the storage's errors.
    """
    began = time.monotonic()
    log.info("push.started", destination=push.destination, folder=push.folder, objects=len(push.files))
    with _counted(push), _taking_back(destination) as arrived:
        errand = _Errand(push, storage, destination, report, written, former, arrived, note)
        pushed = [errand.put(file) for file in push.files]
        pushed_at = clock()
    seconds, size = time.monotonic() - began, sum(one.size for one in arrived)
    metrics.PUSH_SECONDS.observe(seconds, destination=push.destination)
    metrics.PUSH_BYTES.count(size, destination=push.destination)
    log.info("push.finished", destination=push.destination, objects=len(pushed), bytes=size, seconds=round(seconds, 3))
    return {
        "name": push.destination,
        "uri": f"{push.place}/{push.folder}/",
        "pushed_at": pushed_at.isoformat(),
        "files": pushed[:-1],
        "manifest": pushed[-1],
    }


def remove_left(note: Mapping[str, Any], destination: Destination, *, published: Collection[str]) -> int:
    """Delete what an attempt that has ended unpublished left at its destination; return how much that was.

    Only objects of its own mark go, none of those that the run has published, and of what was begun and not finished
    only what the note names by its id. Raises DestinationUnavailableError, DestinationError; what was deleted until
    then stays so.
    """
    gone = 0
    for name in note["objects"]:
        found = destination.look(name) if name not in published else None
        if found is not None and found.mark == note["mark"]:
            gone += destination.delete(found)
    # The notes of earlier versions have none.
    for name, upload in note.get("uploads", ()):
        gone += destination.abort(name, upload)
    return gone


@dataclass
class _Errand:
    """One push under way."""

    push: Push
    storage: Storage
    destination: Destination
    report: Report
    written: Progress
    former: Collection[str]
    arrived: list[Arrived]
    note: Callable[[Document], None]
    uploads: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def put(self, file: Linked) -> Document:
        """Push one file; return what the run's artifact says of it."""
        replaces = self._replaceable(file)
        self._advance(0)
        with self.destination.put(
            self.push.name_of(file),
            content_type=file.content_type,
            size=file.stored.size,
            mark=self.push.mark,
            replaces=replaces,
            begun=partial(self._begun, self.push.name_of(file)),
        ) as delivery:
            fault_point("push.begun")
            self._write(file, delivery)
            fault_point("push.complete")
            self._advance(0)
            there = delivery.commit()
            self.arrived.append(there)
            fault_point("push.finalised")
        if (there.size, there.crc32c) != (file.stored.size, file.stored.crc32c):
            raise CorruptUploadError(
                f"The destination reports {there.size} bytes with crc32c {there.crc32c} where {file.stored.size} bytes "
                f"with crc32c {file.stored.crc32c} were pushed."
            )
        fault_point("push.verified")
        return {"file_name": file.file_name, "uri": self.push.uri_of(file), "bytes": there.size, "crc32c": there.crc32c}

    def _begun(self, name: str, upload: str) -> None:
        """Note what was begun, so that it is given up if the worker dies."""
        self.uploads.append((name, upload))
        self.note(self.push.note | {"uploads": self.uploads})

    def _replaceable(self, file: Linked) -> Arrived | None:
        """Return the object that is to be replaced, or None where the name is free."""
        found = self.destination.look(self.push.name_of(file))
        if found is not None and not self.push.overwrite and found.mark not in self.former:
            raise DestinationTakenError(
                f"There is another object at {self.push.uri_of(file)}: let the path of `target.destination` hold "
                "{run}, or set its `overwrite`."
            )
        return found

    def _write(self, file: Linked, delivery: Delivery) -> None:
        meter = Meter(delivery.write)
        for piece in self.storage.read(file.stored):
            meter.write(piece)
            fault_point("push.chunk")
            self._advance(len(piece))
        if (meter.size, meter.written.sha256) != (file.stored.size, file.sha256):
            raise CorruptUploadError("The service's own storage gave other bytes than were written to it.")

    def _advance(self, size: int) -> None:
        """Tell how far it is, and hear whether it may go on."""
        self.written = replace(self.written, bytes_pushed=self.written.bytes_pushed + size)
        self.report(self.written)


@contextmanager
def _counted(push: Push) -> Generator[None]:
    """Count how a push ends."""
    outcome = "failed"
    try:
        yield
        outcome = "pushed"
    except StopAttempt:
        outcome = "stopped"
        raise
    finally:
        metrics.PUSHES.count(destination=push.destination, outcome=outcome)


@contextmanager
def _taking_back(destination: Destination) -> Generator[list[Arrived]]:
    """Collect what has arrived, and delete it again where the push does not come to its end.

    What cannot be deleted now is the sweeper's; so is everything where another worker has the run by now, and may be
    replacing it.
    """
    arrived: list[Arrived] = []
    try:
        yield arrived
    except LeaseLost:
        raise
    except BaseException:
        for one in arrived:
            try:
                destination.delete(one)
            except ServiceError as error:
                log.warning("push.object_left", object_name=one.name, code=error.code)
        raise


def probe(destination: Destination, folder: str) -> None:
    """Put a small object there, look at it and delete it, begin a large one and give it up: all that a push may do.

    Raises DestinationUnavailableError, DestinationError.
    """
    name, content, mark = f"{folder}/tasks-service-{secrets.token_hex(8)}.txt".strip("/"), b"tasks-service\n", "probe"
    with destination.put(name, content_type="text/plain", size=len(content), mark=mark, replaces=None) as delivery:
        delivery.write(content)
        there = delivery.commit()
    if destination.look(name) != there or there.size != len(content):
        raise DestinationError("An object was written, and what the destination says of it differs from what it was.")
    if not destination.delete(there):
        raise DestinationError(f"The probe {name} could not be deleted.")
    begun: list[str] = []
    with destination.put(
        name, content_type="text/plain", size=_LARGE_BYTES, mark=mark, replaces=None, begun=begun.append
    ):
        pass
    for upload in begun:
        destination.abort(name, upload)  # was given up already, where there is a right to
