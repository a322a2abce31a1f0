"""The port of formats: pages of raw documents in, encoded bytes out. One encoder a file, and compression.py.

An encoder knows nothing of where its bytes go, nor of which document comes first: `encode` is called by several
threads at once, and its results are joined in any order with `separator` between them.
"""

from __future__ import annotations

from typing import Protocol

from tasks_service.sources import Documents


class Encoder(Protocol):
    """Turns documents into the bytes of one file: header + separator.join(encode(page) for page in pages) + footer.

    A file without a single document is `empty` instead.
    """

    extension: str
    content_type: str
    header: bytes
    separator: bytes
    footer: bytes
    empty: bytes

    def encode(self, documents: Documents) -> Encoded:
        """Encode one non-empty page. Safe to call from several threads; heavy work leaves the interpreter lock.

        Raises SourceError where a document is not JSON.
        """
        ...


class Encoded:
    """The bytes of one page, its rows, and how many of its cells a spreadsheet could take for a formula."""

    __slots__ = ("data", "rows", "suspicious_cells")

    def __init__(self, data: bytes, rows: int, suspicious_cells: int = 0) -> None:
        self.data = data
        self.rows = rows
        self.suspicious_cells = suspicious_cells
