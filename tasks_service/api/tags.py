"""Small grammars of HTTP headers: entity tags, `Prefer: wait`, and idempotency keys.

Pure. Headers that merely ask (`Prefer`) are passed over where they make no sense; those that guard (`If-Match`,
`Idempotency-Key`) are refused.
"""

from __future__ import annotations

import re

from tasks_service.api.problems import InvalidParametersError
from tasks_service.errors import Fault

LONGEST_WAIT = 300
DEFAULT_WAIT = 60
_TAG = re.compile(r'(?:W/)?"?([0-9]{1,19})(?:\.[0-9]{1,19})?"?')
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?')
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE_KEY = re.compile(r"[!#-~][!-~]*")
_KEY_LENGTH = 255


def etag(version: int, revision: int) -> str:
    """Return the entity tag of a task."""
    return f'"{version}.{revision}"'


def matches_none(if_none_match: str | None, tag: str) -> bool:
    """Tell whether the caller has this very state already."""
    if not if_none_match:
        return False
    offered = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in offered or tag in offered


def matches_version(if_match: str | None, version: int) -> bool:
    """Tell whether an edit was made on this version; of a tag only the version counts. No header: no condition."""
    if if_match is None:
        return True
    offered = [one.strip() for one in if_match.split(",")]
    if "*" in offered:
        return True
    return str(version) in {found[1] for one in offered if (found := _TAG.fullmatch(one))}


def wait_wanted(prefer: str | None) -> int:
    """Return how many seconds the caller would wait: 60 unless it says otherwise, 300 at most."""
    preferences = [one.strip().lower() for one in (prefer or "").split(",")]
    for preference in preferences:
        if found := _WAIT.fullmatch(preference):
            return min(int(found[1]), LONGEST_WAIT)
    return 0 if "respond-async" in preferences else DEFAULT_WAIT


def idempotency_key(header: str | None) -> str | None:
    """Return the key: as the draft has it, a quoted string, or bare as most clients send it."""
    if header is None:
        return None
    text = header.strip()
    quoted = _QUOTED_KEY.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not (0 < len(key) <= _KEY_LENGTH) or not (quoted or _BARE_KEY.fullmatch(text)):
        detail = f'Send 1 to {_KEY_LENGTH} visible ASCII characters, bare or as a quoted string, e.g. "8e03978e-40d5".'
        raise InvalidParametersError(faults=[Fault("Idempotency-Key", "invalid_key", detail)])
    return key
