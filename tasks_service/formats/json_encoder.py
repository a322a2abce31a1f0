"""JSON (one array) and JSONL (a document a line): the raw documents themselves, byte for byte.

What lives here is the joining. Nothing is parsed: integers of any length, the order of members, `1.0` and `1` arrive
as the source holds them. Only line breaks between the tokens of a document become spaces, so that a document is one
line (JSON allows no line break inside a string). What `dry_data` leaves out is dry_data.py's. Called by registry.py.
"""

from __future__ import annotations

from tasks_service.formats import Encoded, JoiningWriter, Joints
from tasks_service.formats.dry_data import DryData
from tasks_service.sources import Documents

_CR = b"\r"
_LF = b"\n"


def one_line(documents: Documents, joint: bytes = _LF) -> bytes:
    """Join documents by `joint`, each of them on a line of its own."""
    joined = joint.join(documents)
    breaks = (len(documents) - 1) * joint.count(_LF)
    if joined.count(_LF) == breaks and _CR not in joined:
        return joined
    return joint.join(document.replace(_LF, b" ").replace(_CR, b" ") for document in documents)


class _DocumentEncoder:
    """What both formats of whole documents do."""

    joints = Joints()

    def __init__(self, dry: DryData | None = None) -> None:
        """Take what is left out of each document; None: nothing is."""
        self._dry = dry

    def writer(self) -> JoiningWriter:
        """Join the pages of one file."""
        return JoiningWriter(self.joints)

    def _kept(self, documents: Documents) -> Documents:
        return documents if self._dry is None else self._dry.documents(documents)


class JsonLinesEncoder(_DocumentEncoder):
    """A document a line, each line ended by a line feed."""

    extension = "jsonl"
    content_type = "application/x-ndjson"

    def encode(self, documents: Documents) -> Encoded:
        """Join one page. Raises SourceError where a document that is to be dry is not a JSON object."""
        return Encoded(one_line([*self._kept(documents), b""]), len(documents))


class JsonEncoder(_DocumentEncoder):
    """One array of all documents, a line each."""

    extension = "json"
    content_type = "application/json"
    joints = Joints(header=b"[\n", separator=b",\n", footer=b"\n]\n", empty=b"[]\n")

    def encode(self, documents: Documents) -> Encoded:
        """Join one page. Raises SourceError where a document that is to be dry is not a JSON object."""
        return Encoded(one_line(self._kept(documents), self.joints.separator), len(documents))
