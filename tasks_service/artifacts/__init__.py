"""The artifact of a run: its file, or its numbered files, or one archive of them, and the manifest beside it.

What lives here: the record of them as the run keeps it, and how it is read again. What does not: writing them
(writing.py, splitting.py, archive.py), what is told of them (sealing.py, manifest.py) and holding them against it
(verification.py). All of an attempt's objects lie in one folder that no other attempt can share; none of them is
anybody's before the run's compare-and-set names them all at once. Called by export.py, runner.py, sweeper.py, api/ and
cli/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks_service.storage import StoredObject

Document = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """Bytes that were written: how many, and their checksums. `crc32c` is base64, as the storage writes it."""

    bytes: int
    crc32c: str
    sha256: str


@dataclass(frozen=True)
class FilePart:
    """A stretch of a file that was written for itself; a file's parts follow one another without a gap."""

    rows: int
    written: Written


@dataclass(frozen=True)
class ArtifactFile:
    """One file of a result.

    Attributes:
        stored: its object; None where it lies inside the archive.
        parts: what it was put together from; none where it was written in one go.
    """

    name: str
    content_type: str
    rows: int
    documents: int
    suspicious_cells: int
    written: Written
    stored: StoredObject | None
    parts: tuple[FilePart, ...] = ()


@dataclass(frozen=True)
class StoredFile:
    """Anything that is an object of its own: a file, an archive, a manifest."""

    name: str
    content_type: str
    written: Written
    stored: StoredObject


@dataclass
class Result:
    """What was written, whole: its files in order, and the archive that holds them where one was asked for."""

    files: list[ArtifactFile] = field(default_factory=list[ArtifactFile])
    archive: StoredFile | None = None

    @property
    def rows(self) -> int:
        """The rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def documents(self) -> int:
        """The documents of all files."""
        return sum(file.documents for file in self.files)

    @property
    def bytes(self) -> int:
        """The bytes of all files, as they are downloaded or lie in the archive."""
        return sum(file.written.bytes for file in self.files)

    @property
    def suspicious_cells(self) -> int:
        """The cells of all files that a spreadsheet could take for a formula."""
        return sum(file.suspicious_cells for file in self.files)


@dataclass(frozen=True)
class Linked:
    """What a download link is made of, read from a run's record. `rows` is None of a manifest."""

    stored: StoredObject
    file_name: str
    content_type: str
    sha256: str
    rows: int | None


def file_document(file: ArtifactFile) -> Document:
    """Return one file as the run keeps it."""
    return {
        **_description(file.name, file.content_type, file.written),
        "rows": file.rows,
        "documents": file.documents,
        **(_place(file.stored) if file.stored is not None else {}),
    }


def object_document(file: StoredFile) -> Document:
    """Return an archive or a manifest as the run keeps it."""
    return {**_description(file.name, file.content_type, file.written), **_place(file.stored)}


def is_split(artifact: Mapping[str, Any]) -> bool:
    """Tell whether a result is of numbered files, however many there are."""
    return artifact.get("split") is not None


def file_links(artifact: Mapping[str, Any]) -> list[Linked]:
    """Return what is downloaded of a result: its one file, its archive, or each of its numbered files."""
    whole = artifact.get("object") is not None
    return [_linked(one, artifact["bucket"]) for one in ([artifact] if whole else artifact["files"])]


def manifest_link(artifact: Mapping[str, Any]) -> Linked | None:
    """Return the manifest; None for a result of the time before there were any."""
    manifest = artifact.get("manifest")
    return None if manifest is None else _linked(manifest, artifact["bucket"])


def objects_of(artifact: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """Return the name and the generation of every object of a result."""
    documents: list[Mapping[str, Any]] = [artifact, *artifact.get("files", ()), artifact.get("manifest") or {}]
    found = {one["object"]: one.get("generation") for one in documents if one.get("object") is not None}
    return list(found.items())


def _description(name: str, content_type: str, written: Written) -> Document:
    return {
        "file_name": name,
        "content_type": content_type,
        "bytes": written.bytes,
        "crc32c": written.crc32c,
        "sha256": written.sha256,
    }


def _place(stored: StoredObject) -> Document:
    return {"object": stored.name, "generation": stored.generation, "stored_at": stored.created_at.isoformat()}


def _linked(document: Mapping[str, Any], bucket: str) -> Linked:
    stored = StoredObject(
        bucket=bucket,
        name=document["object"],
        generation=document["generation"],
        size=document["bytes"],
        crc32c=document["crc32c"],
        # The records of the first version do not have it.
        created_at=datetime.fromisoformat(document.get("stored_at") or document["snapshot_at"]),
    )
    return Linked(stored, document["file_name"], document["content_type"], document["sha256"], document.get("rows"))
