"""How objects lie in a directory, durably and atomically; all errors are OSErrors.

An object is a directory that holds one file, whose name is its generation and checksum:

    objects/exports/1764/12345/7-1.csv@/1764201600000000.9ae0daaf

It is written as `uploads/<random>/...`, on the same filesystem, made durable, and put in place by one rename
of its directory: rename(2) refuses where the target holds anything, so no object is ever overwritten, and a
reader sees the whole or nothing. Deleting a generation unlinks exactly that file name. "@" is in no object
name, so an object never meets a folder of others. A killed upload leaves its directory in uploads/ behind;
its file was locked while it lived, so the dead are told from the living without guessing by age. Called by
local.py, local_upload.py.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks_service.storage import StoredObject

BUCKET = "local"

_CONTENT = re.compile(r"(?P<generation>\d{1,19})\.(?P<crc32c>[0-9a-f]{8})")
_GENERATION_DIGITS = 19

_RACES = 100
"""How often a commit meets a deletion that prunes the folders it has just made, before it gives up."""


LOCK_SECONDS = 10.0
"""How long the lock is waited for. It is held for microseconds, but a process can be stopped at any of them."""

_LOCK_PAUSE_SECONDS = 0.005


@dataclass(frozen=True)
class Found:
    """An object, and the file that holds its content."""

    stored: StoredObject
    path: Path


def _lock_within(descriptor: int, kind: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


class Tree:
    """The directory of a local storage, safe between threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.objects = root / "objects"
        self.uploads = root / "uploads"

    def make(self) -> None:
        """Make the directories."""
        self.objects.mkdir(parents=True, exist_ok=True)
        self.uploads.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lock(self, kind: int) -> Generator[int]:
        """Hold the tree's lock: shared to begin an upload, exclusive to sweep and to number generations.

        Raises TimeoutError where a process that was stopped while it held the lock keeps it.
        """
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock_within(descriptor, kind, LOCK_SECONDS)
            yield descriptor
        finally:
            os.close(descriptor)

    def next_generation(self) -> int:
        """Return the time in microseconds, or one more than the last number where the clock went back.

        The last number is kept in the lock file, so that processes and restarts agree on it.
        """
        with self.lock(fcntl.LOCK_EX) as descriptor:
            last = int(os.pread(descriptor, _GENERATION_DIGITS, 0) or b"0")
            generation = max(time.time_ns() // 1000, last + 1)
            os.pwrite(descriptor, b"%0*d" % (_GENERATION_DIGITS, generation), 0)
        return generation

    def sweep(self) -> int:
        """Remove the directories of dead uploads; return how many."""
        swept = 0
        self.make()
        with self.lock(fcntl.LOCK_EX):
            for folder in self.uploads.iterdir():
                if _is_dead(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
        return swept

    def place(self, folder: Path, name: str) -> Path:
        """Put a finished upload's directory in place, durably.

        Raises FileExistsError where an object of that name exists.
        """
        target = self.objects / f"{name}@"
        for _ in range(_RACES):
            try:
                _make_durable(target.parent)
                folder.rename(target)
                sync_folder(target.parent)
            except FileNotFoundError:
                continue  # a deletion beside us pruned the folders that had just become empty
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                raise
            return target
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def find(self, name: str) -> Found | None:
        """Return an object, or None."""
        folder = self.objects / f"{name}@"
        for path in _entries(folder):
            if (found := describe(name, path)) is not None:
                return found
        return None

    def delete(self, name: str, generation: int | None) -> bool:
        """Unlink that generation (None: whichever is there); False where it is not there."""
        found = self.find(name)
        if found is None or generation not in (None, found.stored.generation):
            return False
        try:
            found.path.unlink()
        except FileNotFoundError:
            return False
        self.prune(name)
        return True

    def walk(self, prefix: str) -> Iterator[Found]:
        """Yield the objects whose name begins with `prefix`."""
        folder, _, start = prefix.rpartition("/")
        for path in _contents_under(self.objects / folder, start):
            name = path.parent.relative_to(self.objects).as_posix().removesuffix("@")
            if (found := describe(name, path)) is not None:
                yield found

    def prune(self, name: str) -> None:
        """Remove the folders of a name that are empty; rmdir refuses where an upload has put something."""
        folder = self.objects / f"{name}@"
        while folder != self.objects:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass  # somebody else did
            except OSError:
                return
            folder = folder.parent


def describe(name: str, path: Path) -> Found | None:
    """Return an object's description, or None where the file is not (or no longer) an object's content."""
    content = _CONTENT.fullmatch(path.name)
    if content is None:
        return None
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    generation = int(content["generation"])
    stored = StoredObject(
        bucket=BUCKET,
        name=name,
        generation=generation,
        size=size,
        crc32c=base64.b64encode(bytes.fromhex(content["crc32c"])).decode("ascii"),
        created_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=generation),
    )
    return Found(stored, path)


def content_name(generation: int, crc32c: bytes) -> str:
    """Return the file name of an object's content; `describe` reads it."""
    return f"{generation}.{crc32c.hex()}"


def sync_folder(folder: Path) -> None:
    """Make a folder's entries outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_durable(folder: Path) -> None:
    """Make a folder and its missing parents, each synced into its own parent."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing where it is not there, or went meanwhile."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _contents_under(folder: Path, start: str) -> Iterator[Path]:
    """Yield the content files under a folder whose first component below it begins with `start`."""
    for path in _entries(folder):
        if path.name.startswith(start) and path.name.endswith("@"):
            yield from _entries(path)
        elif path.name.startswith(start):
            yield from _contents_under(path, "")


def _is_dead(folder: Path) -> bool:
    """Tell whether nobody writes there any more: the lock of a living upload cannot be had.

    Called under the exclusive lock, so no upload is between making its directory and locking its file. What
    cannot be looked at was put in place or given up by its owner a moment ago.
    """
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(descriptor)
        return True
    return False
