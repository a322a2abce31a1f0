"""Names: which object names a storage takes, and how a file's own name is put in a header.

Pure. Both adapters take the same names: what works on the embedded default works on Google Cloud Storage.
Called by local.py, gcs.py and api/files.py.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from tasks_service.errors import CorruptUploadError, StorageError

_SEGMENT = r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")
_LONGEST_NAME = 900
"""Google Cloud Storage takes 1024 bytes; a directory tree needs some of what a path may be long."""

_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"
"""What RFC 5987 (attr-char) leaves unquoted beside letters and digits."""


def checked_name(name: str) -> str:
    """Return the object name; raise StorageError where it could leave its directory."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise StorageError(
            "An object name is made of segments of letters, digits and . _ = - joined by /, none of them "
            f"empty or beginning with a dot, {_LONGEST_NAME} characters at most."
        )
    return name


def checked_prefix(prefix: str) -> str:
    """Return the start of object names; raise StorageError where no object name could begin so."""
    if len(prefix) > _LONGEST_NAME or not _PREFIX.fullmatch(prefix):
        raise StorageError("A prefix is the start of an object name, for example exports/1764/.")
    return prefix


class NameTakenError(StorageError):
    """There is an object of that name, or another one than was to be replaced."""


def already_exists() -> NameTakenError:
    """Return the error of an upload to a name that is taken; both adapters raise it."""
    return NameTakenError("An object of that name exists already and is never overwritten; write under a new name.")


def source_gone() -> CorruptUploadError:
    """Return the error of an object that is to be read or put together and lies there no more as it was."""
    return CorruptUploadError("An object that was written before is not there any more, or is another one by now.")


def attachment(file_name: str) -> str:
    """Return the Content-Disposition that saves a response under `file_name` (RFC 6266).

    Both forms are given: `filename` in ASCII for old clients, `filename*` (RFC 5987) with the exact name.
    Characters that could end the header or climb directories are replaced, whoever chose the name.
    """
    exact = "".join("_" if _unsafe(character) else character for character in file_name) or "download"
    plain = unicodedata.normalize("NFKD", exact).encode("ascii", "replace").decode("ascii")
    plain = plain.replace("?", "_").replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(exact, safe=_ATTRIBUTE_CHARACTERS)}"


def _unsafe(character: str) -> bool:
    return character in '/\\"' or unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
