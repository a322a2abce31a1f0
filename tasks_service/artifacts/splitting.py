"""Rows into files: one file, or numbered files of so many rows or bytes.

What lives here: where one file ends and the next begins, and what they are called. Chunks arrive in any order and of
any size, so that one may lie across the end of a file: then its documents are encoded again in parts, which costs about
a page of them at each end and nothing elsewhere. Where the files lie (objects, or members of an archive) is
containers.py's. Called by export.py.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tasks_service.artifacts import ArtifactFile, Result
from tasks_service.artifacts.containers import Container, OpenFile, container_of
from tasks_service.artifacts.writing import Committed, FileWriter
from tasks_service.errors import ServiceError
from tasks_service.filenames import numbered
from tasks_service.formats import Encoded, Encoder, Writer, portions_of
from tasks_service.formats.compression import compressor
from tasks_service.order import ExportOrder
from tasks_service.sources import Documents


class TooManyFilesError(ServiceError):
    """The result would be more files than a run may have; let `target.split` make larger ones."""

    code = "too_many_files"
    http_status = 422


@dataclass(frozen=True)
class Split:
    """Where files end: after so many rows, or before they would be more than so many bytes, uncompressed."""

    rows: int | None = None
    bytes: int | None = None

    def takes(self, file: FileWriter, chunk: Encoded) -> bool:
        """Tell whether a file has room for a whole chunk."""
        if self.rows is not None:
            return file.rows + chunk.rows <= self.rows
        return self.bytes is None or file.size_with(chunk) <= self.bytes

    def room(self, file: FileWriter) -> int | None:
        """Return how many rows, hence documents at most, the file still takes; None where only bytes count."""
        return None if self.rows is None else self.rows - file.rows


@dataclass(frozen=True)
class Layout:
    """How a result lies in the storage: the attempt's folder, the name of the whole, what was asked of its files."""

    folder: str
    file_name: str
    compression: str = "none"
    split: Split | None = None
    archive: bool = False
    most_files: int = 1

    @classmethod
    def of(cls, order: ExportOrder) -> Layout:
        """Return what an order asks for."""
        split = order.target.get("split")
        return cls(
            folder=order.folder,
            file_name=order.file_name,
            compression=order.compression,
            split=Split(**split) if split else None,
            archive=order.target.get("archive") == "zip",
            most_files=order.most_files if split else 1,
        )

    def check(self, rows: int) -> None:
        """Raise TooManyFilesError where so many rows cannot go into as many files as there may be."""
        most = self.split.rows if self.split is not None else None
        if most is not None and rows > most * self.most_files:
            files = -(-rows // most)
            raise TooManyFilesError(
                f"{rows} rows at {most} a file would be {files} files, and a run may have {self.most_files}; "
                "let `target.split` make larger ones."
            )


class Kept(Encoded):
    """An encoded page with the documents it was made of, so that it can be divided."""

    __slots__ = ("documents_bytes", "page", "source")

    def __init__(self, page: Encoded, source: Documents) -> None:
        super().__init__(b"", page.rows, page.suspicious_cells, documents=page.documents)
        self.page = page
        self.source = source
        self.documents_bytes = sum(map(len, source))

    @property
    def size(self) -> int:
        """Bytes it holds in memory, the documents included."""
        return self.page.size + self.documents_bytes


class KeepingEncoder:
    """An encoder whose pages can be divided."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.extension, self.content_type, self.joints = encoder.extension, encoder.content_type, encoder.joints

    def portions(self, documents: Documents) -> Iterable[Documents]:
        """Divide a page as the encoder itself would."""
        return portions_of(self._encoder, documents)

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page, and keep its documents."""
        return Kept(self._encoder.encode(documents), documents)

    def writer(self) -> Writer:
        """Return what joins the pages, without their documents."""
        return self._encoder.writer()


class ResultWriter:
    """Writes a result's chunks into its files. Used by one thread, inside `result_writer`."""

    def __init__(self, layout: Layout, encoder: Encoder, container: Container) -> None:
        self._layout = layout
        self._encoder = encoder
        self._container = container
        self._result = Result()
        self._open = ExitStack()
        self._file: tuple[FileWriter, OpenFile] | None = None
        self.rows = 0
        self.documents = 0
        self._size = 0

    @property
    def splits(self) -> bool:
        """Whether pages may have to be divided between files."""
        return self._layout.split is not None

    @property
    def size(self) -> int:
        """Bytes of files so far."""
        return self._size + (self._file[0].size if self._file else 0)

    def expect(self, rows: int) -> None:
        """Raise TooManyFilesError at once where at least so many rows will not fit."""
        self._layout.check(rows)

    def add(self, chunk: Encoded) -> None:
        """Add a chunk, to the file at hand or, where that is full, to the next ones."""
        self.rows += chunk.rows
        self.documents += chunk.documents
        split = self._layout.split
        page = chunk.page if isinstance(chunk, Kept) else chunk
        if split is None or split.takes(self._current(), page):
            self._current().add(page)
        elif isinstance(chunk, Kept):
            self._divide(split, chunk.source)
        else:
            raise TypeError("a page that has to be divided was encoded without its documents")

    def finish(self) -> Result:
        """Bring the last file, and the archive, to their ends; a result without a row is one file all the same."""
        if self._file is not None or not self._result.files:
            self._finish_file(self._current())
        self._result.archive = self._container.finish()
        return self._result

    def close(self) -> None:
        """End what was not finished."""
        self._open.close()

    def _divide(self, split: Split, documents: Documents) -> None:
        """Encode documents again in parts that fit: halves, and halves of those, down to the end of a file.

        What fits no file (a document of more rows or bytes than one may have) has a file to itself.
        """
        parts = [documents]
        while parts:
            part = parts.pop()
            room = split.room(self._current())
            if room is not None and room <= 0:
                self._finish_file(self._current())
                parts.append(part)
                continue
            if room is not None and len(part) > room:
                parts.append(part[room:])
                part = part[:room]
            chunk = self._encoder.encode(part)
            if split.takes(self._current(), chunk) or (len(part) == 1 and not self._current().documents):
                self._current().add(chunk)
            elif len(part) == 1:
                self._finish_file(self._current())
                self._current().add(chunk)
            else:
                half = len(part) // 2
                parts += [part[half:], part[:half]]

    def _current(self) -> FileWriter:
        """Return the file that is being written; the next one where there is none."""
        if self._file is None:
            number = len(self._result.files) + 1
            if number > self._layout.most_files:
                raise TooManyFilesError(
                    f"{self.rows} rows fill more than the {self._layout.most_files} files a run may have; "
                    "let `target.split` make larger ones."
                )
            split = self._layout.split is not None
            name = numbered(self._layout.file_name, number) if split else self._layout.file_name
            opened = self._open.enter_context(self._container.file(name))
            self._file = (FileWriter(self._encoder, compressor(self._layout.compression), opened.write), opened)
        return self._file[0]

    def _finish_file(self, writer: FileWriter) -> None:
        if self._file is None:
            return
        _, opened = self._file
        written = writer.finish()
        stored = opened.commit()
        self._open.close()
        self._file = None
        self._size += written.bytes
        self._result.files.append(
            ArtifactFile(
                name=opened.name,
                content_type=opened.content_type,
                rows=writer.rows,
                documents=writer.documents,
                suspicious_cells=writer.suspicious_cells,
                written=written,
                stored=stored.stored if stored is not None else None,
            )
        )


@contextmanager
def result_writer(layout: Layout, encoder: Encoder, committed: Committed) -> Generator[ResultWriter]:
    """Write a result; left without `finish`, by any way, whatever is open comes to nothing.

    What was finalised before that is in `committed`.
    """
    name, compression = layout.file_name, layout.compression
    with container_of(layout.folder, name, encoder, compression, committed, archive=layout.archive) as into:
        writer = ResultWriter(layout, encoder, into)
        try:
            yield writer
        except BaseException:
            into.abandon()
            raise
        finally:
            writer.close()
