"""Files held against their manifest: every difference named, in one pass over each, in constant memory.

What lives here: the judging of files that were downloaded, split or in an archive. It asks no service and needs no
configuration. Called by cli/verification.py.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks_service.artifacts import Written
from tasks_service.artifacts.manifest import Manifest, ManifestArchive, ManifestFile
from tasks_service.artifacts.writing import Meter

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Verdict:
    """What was found of one file.

    Attributes:
        name: as the manifest has it, or the file's own where the manifest has none of the name.
        rows: how many rows it holds if it is right; None for an archive, and for what the manifest does not know.
        bytes: how many bytes were read of it.
        differences: each a sentence; none where it is what the manifest says.
    """

    name: str
    rows: int | None
    bytes: int
    differences: tuple[str, ...] = ()


def verify(paths: Sequence[Path], manifest: Manifest) -> Iterator[Verdict]:
    """Judge downloaded files, in the manifest's order; what is missing and what is not in it come last.

    A path is a file, the archive, or a folder that holds the files by their names. A file that is the only one on
    both sides may have another name. Raises OSError where a path cannot be read.
    """
    expected = list(manifest.files)
    archive = _archive(paths, manifest)
    if archive is not None and manifest.archive is not None:
        yield from _verify_archive(archive, manifest.archive, expected)
        return
    found = {path.name: path for path in _files(paths, {file.name for file in expected})}
    if len(expected) == 1 and len(found) == 1:
        found = {expected[0].name: next(iter(found.values()))}
    for file in expected:
        path = found.pop(file.name, None)
        if path is None:
            yield Verdict(file.name, file.rows, 0, ("it is missing",))
        else:
            with path.open("rb") as stream:
                yield _judge(file.name, file.rows, file, _read(_chunks(stream), file.bytes))
    for name in sorted(found):
        yield Verdict(name, None, 0, ("the manifest has no file of this name",))


def _archive(paths: Sequence[Path], manifest: Manifest) -> Path | None:
    """Return the archive among the paths; its members may have been unpacked instead."""
    if manifest.archive is None or len(paths) != 1 or not paths[0].is_file():
        return None
    return None if paths[0].name in {file.name for file in manifest.files} else paths[0]


def _files(paths: Sequence[Path], names: set[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (path / name for name in names if (path / name).is_file())
        else:
            yield path


def _verify_archive(path: Path, archive: ManifestArchive, expected: Sequence[ManifestFile]) -> Iterator[Verdict]:
    with path.open("rb") as stream:
        whole = _judge(archive.name, None, archive, _read(_chunks(stream), archive.bytes))
        yield whole
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as members:
                yield from _verify_members(members, expected)
        except zipfile.BadZipFile:
            if not whole.differences:
                yield Verdict(archive.name, None, whole.bytes, ("it is not a zip archive",))


def _verify_members(archive: zipfile.ZipFile, expected: Sequence[ManifestFile]) -> Iterator[Verdict]:
    names = archive.namelist()
    for file in expected:
        if file.name not in names:
            yield Verdict(file.name, file.rows, 0, ("it is missing from the archive",))
            continue
        try:
            with archive.open(file.name) as member:
                yield _judge(file.name, file.rows, file, _read(_chunks(member), file.bytes))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            yield Verdict(file.name, file.rows, 0, ("it is damaged inside the archive",))
    for name in sorted(set(names) - {file.name for file in expected}):
        yield Verdict(name, None, 0, ("the manifest has no file of this name",))


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _read(chunks: Iterable[bytes], wanted: int) -> Written:
    """Take the measure of bytes; of more than were wanted no more than tells so is read."""
    meter = Meter(lambda _: None)
    for chunk in chunks:
        meter.write(chunk)
        if meter.size > wanted:
            break
    return meter.written


def _judge(name: str, rows: int | None, said: ManifestFile | ManifestArchive, found: Written) -> Verdict:
    if found.bytes != said.bytes:
        more = "more than" if found.bytes > said.bytes else f"{found.bytes}, not"
        return Verdict(name, rows, found.bytes, (f"its size is {more} {said.bytes} bytes",))
    differences = [
        f"its {kind} is {is_}, not {should}"
        for kind, is_, should in (("crc32c", found.crc32c, said.crc32c), ("sha256", found.sha256, said.sha256))
        if is_ != should
    ]
    return Verdict(name, rows, found.bytes, tuple(differences))
