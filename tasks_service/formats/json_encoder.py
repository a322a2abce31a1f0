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


def _kept(documents: Documents, dry: DryData | None) -> Documents:
    return documents if dry is None else dry.documents(documents)


class JsonLinesEncoder:
    """A document a line, each line ended by a line feed."""

    extension = "jsonl"
    content_type = "application/x-ndjson"
    joints = Joints()

    def __init__(self, dry: DryData | None = None) -> None:
        """Take what is left out of each document; None: nothing is."""
        self._dry = dry

    def encode(self, documents: Documents) -> Encoded:
        """Join one page. Raises SourceError where a document that is to be dry is not a JSON object."""
        return Encoded(one_line([*_kept(documents, self._dry), b""]), len(documents))

    def writer(self) -> JoiningWriter:
        """Join the lines."""
        return JoiningWriter(self.joints)


class JsonEncoder:
    """One array of all documents, a line each."""

    extension = "json"
    content_type = "application/json"
    joints = Joints(header=b"[\n", separator=b",\n", footer=b"\n]\n", empty=b"[]\n")

    def __init__(self, dry: DryData | None = None) -> None:
        """Take what is left out of each document; None: nothing is."""
        self._dry = dry

    def encode(self, documents: Documents) -> Encoded:
        """Join one page. Raises SourceError where a document that is to be dry is not a JSON object."""
        return Encoded(one_line(_kept(documents, self._dry), self.joints.separator), len(documents))

    def writer(self) -> JoiningWriter:
        """Join the elements to one array."""
        return JoiningWriter(self.joints)
