"""A task's trigger as a document: checked whole, every fault at once, and brought into its one stored form.

Stored are {"once": "2026-05-26T12:00:00Z", "timezone": ...} or {"cron", "timezone", "start_at", "end_at",
"jitter", "misfire", "overlap", "pause_after_failures"}, instants in UTC, and beside it the segment untouched or the id
of a saved one as an integer. What a trigger's segment means is segments/, which saved segments there are is
database/; what its occurrences are is schedule.py, through which everybody calls this module. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tasks_service import zones
from tasks_service.cron import Cron, CronError, parse_cron
from tasks_service.errors import Fault

MISFIRE: Final = ("skip", "run_once", "run_all")
OVERLAP: Final = ("skip", "buffer_one", "buffer_all", "allow", "cancel_other")
LONGEST_JITTER = 3600
# A line like 29 February fires every four years; one that stays silent for longer is a mistake.
SOONEST = timedelta(days=5 * 366)
_POINTER = "/trigger"
MOST_FAILURES = 1000
_OF_CRON = ("start_at", "end_at", "jitter", "misfire", "overlap", "pause_after_failures")
_MEMBERS = ("once", "cron", "timezone", *_OF_CRON, "segment", "segment_id")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_DIGITS = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LAST_ID = 2**63 - 1


def check_trigger(trigger: object, *, now: datetime) -> tuple[dict[str, Any], list[Fault]]:
    """Check a trigger as a request carries it; return its stored form, and everything that is wrong with it.

    Members that are null count as absent. Where there are faults, the stored form is not to be used.
    `misfire` and `overlap` stay absent where the caller named none: `defaults` fills them in. The segment
    is passed on unread. Pointers of the faults start with /trigger.
    """
    if not isinstance(trigger, Mapping):
        return {}, [_fault("", "wrong_type", 'must be an object, e.g. {"cron": "0 2 * * *"}')]
    given: dict[str, Any] = {str(name): value for name, value in trigger.items() if value is not None}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    faults = [_unknown(name) for name in given if name not in _MEMBERS]
    faults += _clashes(given)
    zone = _zone(given.get("timezone", "UTC"), faults)
    stored: dict[str, Any] = {}
    if "once" in given:
        stored["once"] = _moment(given["once"], "once", zone, faults)
    if "cron" in given:
        stored |= _cron(given, zone, now, faults)
    stored["timezone"] = "UTC" if zone is None else zone.key
    if "segment" in given:
        stored["segment"] = given["segment"]
    if "segment_id" in given:
        stored["segment_id"] = _segment_id(given["segment_id"], faults)
    return stored, faults


def defaults(trigger: Mapping[str, Any], *, relative: bool) -> dict[str, Any]:
    """Return a cron trigger with `misfire` and `overlap` filled in.

    Where the segment has relative operators each occurrence is another window, so by default none is lost.
    """
    filled = dict(trigger)
    if "cron" in filled:
        filled.setdefault("misfire", "run_all" if relative else "run_once")
        filled.setdefault("overlap", "buffer_all" if relative else "skip")
    return filled


def _fault(member: str, code: str, detail: str) -> Fault:
    subject = f"`{member}`" if member else "`trigger`"
    return Fault(f"{_POINTER}/{member}" if member else _POINTER, code, f"{subject} {detail}.")


def _unknown(name: str) -> Fault:
    near = difflib.get_close_matches(name, _MEMBERS, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(_MEMBERS)}."
    escaped = name.replace("~", "~0").replace("/", "~1")
    return Fault(f"{_POINTER}/{escaped}", "unknown_member", f"`{name}` is not known here; {hint}")


def _clashes(given: Mapping[str, Any]) -> list[Fault]:
    faults: list[Fault] = []
    if "once" in given and "cron" in given:
        faults.append(_fault("", "clash", "has both `once` and `cron`; give exactly one of them"))
    elif "once" not in given and "cron" not in given:
        detail = 'needs `once` (a moment) or `cron` (a cron line), e.g. {"cron": "0 2 * * *"}'
        faults.append(_fault("", "missing", detail))
    if "cron" not in given:
        faults += [
            _fault(name, "not_with_once", "belongs to `cron`; leave it out") for name in _OF_CRON if name in given
        ]
    if "segment" in given and "segment_id" in given:
        faults.append(_fault("", "clash", "has both `segment` and `segment_id`; give at most one of them"))
    return faults


def read_segment_id(value: object) -> int | None:
    """Return the id of a saved segment as callers write it, an integer or its digits; None for what is none."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LAST_ID:
        return None
    return value


def _segment_id(value: object, faults: list[Fault]) -> int | None:
    found = read_segment_id(value)
    if found is None:
        faults.append(_fault("segment_id", "wrong_type", "must be the id of a saved segment, e.g. 42"))
    return found


def _zone(name: object, faults: list[Fault]) -> ZoneInfo | None:
    if isinstance(name, str) and name in zones.names():
        return ZoneInfo(name)
    if not isinstance(name, str):
        faults.append(_fault("timezone", "wrong_type", 'must be a string, e.g. "Europe/Amsterdam"'))
        return None
    faults.append(Fault(f"{_POINTER}/timezone", "unknown_zone", f"`timezone` {zones.unknown_name(name)}"))
    return None


def _moment(value: object, member: str, zone: ZoneInfo | None, faults: list[Fault]) -> str | None:
    """Return an instant in its stored form, in whole seconds; without offset it is read in `zone`.

    A local time that a gap swallows takes the offset before the gap, one that exists twice is the first.
    """
    detail = 'must be a moment in ISO 8601, e.g. "2026-05-26T12:00:00Z"'
    if not isinstance(value, str):
        faults.append(_fault(member, "wrong_type", detail))
        return None
    try:
        moment = datetime.fromisoformat(value.upper()) if _INSTANT.fullmatch(value) else None
    except ValueError:
        moment = None
    if moment is None:
        faults.append(_fault(member, "invalid_date", detail))
        return None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        faults.append(_fault(member, "out_of_range", f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}"))
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone or UTC, fold=0)
    return write_instant(moment)


def write_instant(moment: datetime) -> str:
    """Return an aware instant as stored triggers have it: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cron(given: Mapping[str, Any], zone: ZoneInfo | None, now: datetime, faults: list[Fault]) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    line = _line(given["cron"], faults)
    stored["cron"] = line.text if line is not None else None
    for name in ("start_at", "end_at"):
        stored[name] = _moment(given[name], name, zone, faults) if name in given else None
    stored["jitter"] = _jitter(given.get("jitter", 0), faults)
    if "pause_after_failures" in given:
        stored["pause_after_failures"] = _failures(given["pause_after_failures"], faults)
    for name, known in (("misfire", MISFIRE), ("overlap", OVERLAP)):
        if name not in given:
            continue
        if given[name] in known:
            stored[name] = given[name]
        else:
            faults.append(_fault(name, "unknown_value", f"must be one of {', '.join(known)}"))
    if line is not None and zone is not None:
        _check_it_fires(line, zone, stored, now, faults)
    return stored


def _line(value: object, faults: list[Fault]) -> Cron | None:
    if not isinstance(value, str):
        faults.append(_fault("cron", "wrong_type", 'must be a string of five fields, e.g. "0 2 * * *"'))
        return None
    try:
        return parse_cron(value)
    except CronError as exc:
        faults.append(_fault("cron", "invalid_cron", f"is no cron line: {exc}"))
        return None


def _jitter(value: object, faults: list[Fault]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LONGEST_JITTER:
        faults.append(_fault("jitter", "out_of_range", f"must be a whole number of seconds, 0 to {LONGEST_JITTER}"))
        return 0
    return value


def _failures(value: object, faults: list[Fault]) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_FAILURES:
        detail = f"must be a whole number of failed runs in a row, 1 to {MOST_FAILURES}"
        faults.append(_fault("pause_after_failures", "out_of_range", detail))
        return None
    return value


def _check_it_fires(line: Cron, zone: ZoneInfo, stored: Mapping[str, Any], now: datetime, faults: list[Fault]) -> None:
    """Refuse a line that fires never between its ends, or not for years."""
    start = datetime.fromisoformat(stored["start_at"]) if stored["start_at"] else None
    end = datetime.fromisoformat(stored["end_at"]) if stored["end_at"] else None
    if start is not None and end is not None and start > end:
        faults.append(_fault("", "clash", "has a `start_at` later than its `end_at`"))
        return
    if end is not None and end < now:
        faults.append(_fault("end_at", "out_of_range", "lies in the past; leave it out or name a later moment"))
        return
    since = max(now, start - timedelta(seconds=1)) if start is not None else now
    first = next(line.after(since, zone), None)
    if first is None or first - since > SOONEST:
        detail = "names no date in the next five years; check its day of month, month and weekday"
        faults.append(_fault("cron", "never_fires", detail))
    elif end is not None and first > end:
        detail = f"comes before the first time the cron line fires, {write_instant(first)}"
        faults.append(_fault("end_at", "never_fires", detail))
