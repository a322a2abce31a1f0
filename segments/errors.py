"""What a segment can have wrong: faults, each with a JSON pointer, and the error that carries them all.

Every module of this package that refuses something says it with these two types; the service turns them into
the ``errors`` of a problem document. Nothing here knows about HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a segment.

    Attributes:
        pointer: JSON pointer (RFC 6901) from the segment to the member, such as ``/rules/0/operator``.
        code: stable slug for programs, such as ``unknown_field``.
        detail: one sentence for people that says what would be right.
    """

    pointer: str
    code: str
    detail: str


class SegmentError(ValueError):
    """A segment is refused; ``faults`` holds everything found wrong with it, in the order of the document."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in self.faults))


def escaped(member: str) -> str:
    """``member`` as one token of a JSON pointer."""
    return member.replace("~", "~0").replace("/", "~1")


def shown(value: object) -> str:
    """A short, harmless picture of something a caller wrote, for the text of a fault."""
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
        return '"' + text.encode("utf-8", "replace").decode("utf-8") + '"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # Python refuses to print integers of more than some thousand digits.
        return str(value) if abs(value) < 10**_SHOWN else "an integer of more than 60 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else "a value that is not JSON"


def listed(words: Sequence[str], last: str = "or") -> str:
    """``a, b or c``."""
    if len(words) <= 1:
        return "".join(words)
    return ", ".join(words[:-1]) + f" {last} " + words[-1]
