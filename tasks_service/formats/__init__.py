"""The port of formats: pages of raw documents in, the bytes of one file out. One encoder a file, and compression.py.

Two halves. `encode` turns one page into something that needs no other page; several threads call it at once, off the
interpreter lock where they can. A writer joins the encoded pages to one file, in the order they come and in the one
thread that also uploads. Neither knows where the bytes go, nor which document comes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tasks_service.sources import Documents


class Encoded:
    """One encoded page.

    Attributes:
        data: its bytes; empty where the format's writer takes something else (a subclass says what).
        rows: what a reader of the file counts.
        documents: what was read from the source; fewer than rows where each element of a list has a row of its own.
        suspicious_cells: how many cells a spreadsheet could take for a formula.
    """

    __slots__ = ("data", "documents", "rows", "suspicious_cells")

    def __init__(self, data: bytes, rows: int, suspicious_cells: int = 0, *, documents: int | None = None) -> None:
        self.data = data
        self.rows = rows
        self.documents = rows if documents is None else documents
        self.suspicious_cells = suspicious_cells

    @property
    def size(self) -> int:
        """Bytes it holds in memory while it waits for the writer."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Joints:
    """What stands around and between pages that are joined as bytes: header, data, separator, data, ..., footer.

    A file without a single row is `empty` instead. Whoever joins pages of several workers (parts of one big file)
    writes the same bytes by writing header and footer once and a separator between any two parts that have rows.
    """

    header: bytes = b""
    separator: bytes = b""
    footer: bytes = b""
    empty: bytes = b""


class Writer(Protocol):
    """Joins pages to the bytes of one file. Used by one thread; nothing is added after `finish`."""

    def add(self, page: Encoded) -> bytes:
        """Take the next page and return the bytes that are ready, perhaps none.

        Raises a ServiceError where the file cannot hold it.
        """
        ...

    def finish(self) -> bytes:
        """Return the rest of the file; without a page before it, the whole of a file without rows."""
        ...


class Encoder(Protocol):
    """One format with its columns and options.

    Attributes:
        extension: of the file's name.
        content_type: of the file.
    """

    extension: str
    content_type: str

    @property
    def joints(self) -> Joints | None:
        """How pages are joined as bytes.

        None where they are not (the file has an index of its parts at its end): only one worker's writer can make it.
        """
        ...

    def encode(self, documents: Documents) -> Encoded:
        """Encode one non-empty page. Safe to call from several threads; heavy work leaves the interpreter lock.

        Raises SourceError where a document is not JSON, UnfitDocumentError where the file cannot hold a value of it.
        """
        ...

    def writer(self) -> Writer:
        """Return what joins the pages of one file."""
        ...


@runtime_checkable
class Portioning(Protocol):
    """An encoder whose pages become much more than their documents are, and are better divided before."""

    def portions(self, documents: Documents) -> Iterable[Documents]:
        """Divide a page into pages that are encoded one by one."""
        ...


def portions_of(encoder: Encoder, documents: Documents) -> Iterable[Documents]:
    """Return a page in the portions in which an encoder wants it."""
    return encoder.portions(documents) if isinstance(encoder, Portioning) else (documents,)


class JoiningWriter:
    """The writer of every format whose pages are joined as bytes."""

    def __init__(self, joints: Joints) -> None:
        self._joints = joints
        self._rows = 0

    def add(self, page: Encoded) -> bytes:
        """Return the page with what stands before it."""
        if not page.rows:
            return page.data
        before = self._joints.separator if self._rows else self._joints.header
        self._rows += page.rows
        return before + page.data

    def finish(self) -> bytes:
        """Return what stands at the end."""
        return self._joints.footer if self._rows else self._joints.empty
