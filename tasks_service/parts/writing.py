"""One part: the documents of a share, encoded as the stretch of the file that they are, in an object of its own.

What stands around and between pages (formats.Joints) is divided among the parts, so that their bytes, one after
another, are those of a file that one worker wrote. Called by coordinating.py, and by
helping.py for other workers' runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable

from tasks_service import __version__
from tasks_service.artifacts.writing import FileWriter, stored_object, taking_back
from tasks_service.errors import IncompleteError
from tasks_service.formats import Encoded, Encoder, JoiningWriter, Joints, portions_of
from tasks_service.formats.compression import compressor
from tasks_service.order import ExportOrder
from tasks_service.parts import Part, PartFile
from tasks_service.pipeline import encoded_chunks
from tasks_service.sources import Documents, Snapshot
from tasks_service.storage import Storage

Check = Callable[[int, int], None]
"""Told the documents and the bytes of the part so far, at least once a second; raises what ends the work."""


def fingerprint(order: ExportOrder) -> str:
    """Return what names all that the bytes of a part depend on, beside the view and the share of it.

    Parts of two versions, or of two configurations, would not be one file.
    """
    output = order.output_rules and order.output_rules.fingerprint
    told = [__version__, order.target, order.index.model_dump(mode="json"), output]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def can_be_parts(encoder: Encoder) -> bool:
    """Tell whether stretches of the format's file can be written apart and put together."""
    return encoder.joints is not None


def write_part(
    order: ExportOrder, part: Part, snapshot: Snapshot, encoder: Encoder, storage: Storage, check: Check
) -> PartFile:
    """Write one part, whole and verified, or leave nothing.

    Raises IncompleteError where its documents are not those that were counted, and whatever reading and writing raise.
    """
    stretch = _Stretch(encoder, part)
    with (
        taking_back(storage) as committed,
        stored_object(committed, part.folder, part.name, encoder.content_type) as opened,
    ):
        file = FileWriter(stretch, compressor(order.compression), opened.write)
        partitions = snapshot.partitions(order.readers, part.share)
        chunks = encoded_chunks(
            partitions, encoder, buffer_bytes=order.buffer_bytes, check=lambda: check(file.documents, file.size)
        )
        with contextlib.closing(chunks):
            for chunk in chunks:
                file.add(chunk)
        if file.documents != part.share.documents or (stretch.joints.separator and not file.rows):
            raise IncompleteError(
                f"Part {part.number + 1} has {file.documents} documents in {file.rows} rows where "
                f"{part.share.documents} documents were counted."
            )
        written = file.finish()
        stored = opened.commit().stored
        check(file.documents, file.size)
        return PartFile(file.rows, file.documents, file.suspicious_cells, written, stored)


class _Stretch:
    """An encoder whose file is a stretch of another: the header is the first's, the footer the last's."""

    def __init__(self, encoder: Encoder, part: Part) -> None:
        whole = encoder.joints or Joints()
        first, last = part.number == 0, part.number == part.parts - 1
        header = whole.header if first else whole.separator
        footer = whole.footer if last else b""
        # Documents without a row leave a stretch empty; where pages are separated, that never is (see above).
        self.joints = Joints(header, whole.separator, footer, empty=(whole.header if first else b"") + footer)
        self.extension, self.content_type = encoder.extension, encoder.content_type
        self._encoder = encoder

    def portions(self, documents: Documents) -> Iterable[Documents]:
        """Divide a page as the encoder itself would."""
        return portions_of(self._encoder, documents)

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page."""
        return self._encoder.encode(documents)

    def writer(self) -> JoiningWriter:
        """Join the pages of the stretch."""
        return JoiningWriter(self.joints)
