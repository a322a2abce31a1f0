"""The files of one index, opened: a fixed set of descriptors that a rename or removal in mid-run does not touch.

What lives here is the folder as the file system has it; what the files hold is files_kinds.py's. A new version of
the documents replaces the old by rename: whoever opened the old one goes on reading it. A file that is written in place
while it is read is noticed by its size and times. Called by files.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks_service.errors import SnapshotLostError, SourceError, SourceUnavailableError

Kind = Literal["parquet", "json", "csv"]

_KINDS: dict[str, Kind] = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".csv": "csv"}
_ATTEMPTS = 5
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112 -- no Path at import


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one version of a file from another."""

    name: str
    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(slots=True)
class OpenFile:
    """One open file and what it was when it was opened."""

    descriptor: int
    identity: Identity


class OpenFolder:
    """The open files of one index, all of one kind, in the order of their names. Close it."""

    def __init__(self, kind: Kind, files: list[OpenFile]) -> None:
        self.kind: Kind = kind
        self._files = files
        self._beside: list[OpenFolder] = []

    def beside(self, other: OpenFolder) -> None:
        """Take the folder of another index along: from now on it is checked and closed with this one."""
        self._beside.append(other)

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Return what the files were when they were opened; equal identities mean equal content."""
        return tuple(one.identity for one in self._files)

    @property
    def paths(self) -> list[str]:
        """Return paths that lead to the open files, whatever has happened to their names since."""
        # An empty file has no documents, and no column names that a reader could find.
        return [f"{_DESCRIPTORS}/{one.descriptor}" for one in self._files if one.identity.size]

    def name_of(self, path: str) -> str:
        """Return the file name behind one of `paths`."""
        names = {f"{_DESCRIPTORS}/{one.descriptor}": one.identity.name for one in self._files}
        return names[path]

    def check_unchanged(self) -> None:
        """Raise SnapshotLostError where a file was written in place since it was opened."""
        for one in self._files:
            if _identity(one.identity.name, one.descriptor) != one.identity:
                raise SnapshotLostError(
                    f"{one.identity.name} was written to while it was read; replace files by rename instead."
                )
        for other in self._beside:
            other.check_unchanged()

    def close(self) -> None:
        """Close every file."""
        files, self._files = self._files, []
        for one in files:
            os.close(one.descriptor)
        for other in self._beside:
            other.close()


def open_folder(directory: Path, source: str) -> OpenFolder:
    """Open every document file of an index.

    Raises SourceError where there is no such folder, no file in it, or files of several kinds;
    SourceUnavailableError where files keep vanishing.
    """
    folder = directory / source
    for _ in range(_ATTEMPTS):
        names = _names(folder, source)
        kinds: set[Kind] = {_KINDS[Path(name).suffix.lower()] for name in names}
        if len(kinds) != 1:
            raise SourceError(
                f"The folder {source!r} holds files of several kinds; keep either Parquet, JSON lines or CSV in it."
                if kinds
                else f"The folder {source!r} has no .parquet, .jsonl, .ndjson or .csv file."
            )
        files = _open_all(folder, names)
        if files is not None:
            opened = OpenFolder(kinds.pop(), files)
            if _names(folder, source) == names:
                return opened
            opened.close()
    raise SourceUnavailableError(f"The files of {source!r} keep changing; they could not be opened together.")


def _names(folder: Path, source: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_document_file(entry)]
    except FileNotFoundError as exc:
        raise SourceError(f"There is no folder {source!r} in files.directory.") from exc
    except OSError as exc:
        raise SourceError(f"The folder {source!r} in files.directory cannot be read.") from exc
    return sorted(names)


def _is_document_file(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith((".", "_"))
    return not hidden and Path(entry.name).suffix.lower() in _KINDS and entry.is_file()


def _open_all(folder: Path, names: list[str]) -> list[OpenFile] | None:
    """Open the files; None where one of them vanished since the folder was listed."""
    files: list[OpenFile] = []
    try:
        for name in names:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
            files.append(OpenFile(descriptor, _identity(name, descriptor)))
    except OSError as exc:
        for one in files:
            os.close(one.descriptor)
        if isinstance(exc, FileNotFoundError):
            return None
        raise SourceError(f"{Path(exc.filename or '').name or 'A file'} cannot be opened for reading.") from exc
    return files


def _identity(name: str, descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return Identity(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
