"""Time zone data that a test makes: hosts with other releases than this machine has, as TZif files in a directory."""

from __future__ import annotations

import struct
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tasks_service import zones

HOUR = timedelta(hours=1)


def compiled(hours: float, *changes: tuple[datetime, float]) -> bytes:
    """A zone `hours` ahead of UTC, and from each moment on so many instead: RFC 8536, version 2."""
    offsets = [int(one * 3600) for one in (hours, *(after for _, after in changes))]
    names = b"".join(b"Z%02d\0" % number for number in range(len(offsets)))
    header = struct.pack(">4sc15x", b"TZif", b"2")
    nothing = header + struct.pack(">6l", 0, 0, 0, 0, 1, 1) + struct.pack(">lbb", 0, 0, 0) + b"\0"
    counts = struct.pack(">6l", 0, 0, 0, len(changes), len(offsets), len(names))
    moments = b"".join(struct.pack(">q", int(at.timestamp())) for at, _ in changes)
    which = bytes(range(1, len(offsets)))
    kinds = b"".join(struct.pack(">lbb", offset, 0, 4 * number) for number, offset in enumerate(offsets))
    sign, last = ("-" if offsets[-1] >= 0 else "+"), abs(offsets[-1])
    footer = f"\n<Z>{sign}{last // 3600}:{last % 3600 // 60:02}\n".encode()
    return nothing + header + counts + moments + which + kinds + names + footer


def write(directory: Path, release: str, files: Mapping[str, bytes]) -> Path:
    """A directory as PYTHONTZPATH names it; of an untold release where that is empty."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    if release:
        (directory / "tzdata.zi").write_text(f"# version {release}\n")
    return directory


@contextmanager
def host(directory: Path) -> Iterator[None]:
    """Let this process be one whose data lies in a directory (what it lacks is the package's)."""
    before: Sequence[str] = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(directory)])
    zones.forget()
    try:
        yield
    finally:
        zoneinfo.reset_tzpath(before)
        zones.forget()
