"""Instants as the clock of a zone shows them, `2026-05-26T14:00:00+02:00`, as SQL over the values of a document.

An instant is ISO 8601 with a time (no offset is UTC), or milliseconds since 1970, as Elasticsearch reads fields of
dates; fractions of a second keep every digit. Everything else stays what it is: days, years, lists, what is no date,
and what would leave the years 1 to 9999. What lives here is pure text, with the zone's offsets in it: DuckDB's own
zones are an extension with data of a release of its own. Called by csv_query.py and cells.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks_service.formats.composition import literal
from tasks_service.formats.zone_offsets import zone_offsets
from tasks_service.zones import Rules

_ISO = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?"
    "(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?"
)
_MILLISECONDS = "-?([1-9][0-9]{0,2}|[1-9][0-9]{4,14}|0)"
"""Four digits are a year."""

_OFFSET = "TRY_CAST(rpad(replace(regexp_extract(r.t, '[+-][0-9]{2}:?[0-9]{0,2}$'), ':', ''), 5, '0') AS INTEGER)"
"""Hours and minutes as one number: +02:30 is 230."""

_TIMESTAMP = "make_timestamp(r.s * 1000000)"
_YEAR_START = f"epoch_us(date_trunc('year', {_TIMESTAMP})) // 1000000"
_MS = "((r.t::BIGINT % 1000 + 1000) % 1000)"
_READ = (
    f"CASE WHEN regexp_full_match(r.t, '{_ISO}') THEN {{'x': r.x, 's': "
    "epoch_us(TRY_CAST(left(r.t, CASE WHEN substr(r.t, 17, 1) = ':' THEN 19 ELSE 16 END) AS TIMESTAMP)) // 1000000 "
    f"- CASE WHEN ends_with(r.t, 'Z') THEN 0 ELSE coalesce({_OFFSET} // 100 * 3600 + {_OFFSET} % 100 * 60, 0) END, "
    "'f': regexp_extract(r.t, '[.,][0-9]+')} "
    f"WHEN regexp_full_match(r.t, '{_MILLISECONDS}') THEN {{'x': r.x, 's': (r.t::BIGINT - {_MS}) // 1000, "
    f"'f': CASE WHEN {_MS} = 0 THEN '' ELSE '.' || lpad({_MS}::VARCHAR, 3, '0') END}} "
    "ELSE {'x': r.x, 's': NULL, 'f': NULL} END"
)
"""Seconds since 1970, and the fraction as it is written; null for what is no instant."""

_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
"""The first and the last second of the years 1 to 9999."""


class LocalTimes:
    """Which values of a document are instants, and the zone in which they are written.

    Attributes:
        zone: the zone.
    """

    def __init__(self, rules: Rules, places: Sequence[int]) -> None:
        """Take the zone's rules, and the places of the values from 0, ascending."""
        self.zone = rules.zone
        self._offsets = zone_offsets(rules)
        self._runs = tuple(_runs(places))

    def applied(self, values: str, *, quoted: bool = False) -> str:
        """Return a subquery of `v`, lists of values, as one in which the instants are in the zone.

        `quoted`: the values are JSON.
        """
        if not self._runs:
            return values
        taken = " || ".join(f"v[{start + 1}:{end}]" for start, end in self._runs)
        pieces: list[str] = []
        at = count = 0
        for start, end in self._runs:
            if start > at:
                pieces.append(f"v[{at + 1}:{start}]")
            pieces.append(f"l[{count + 1}:{count + end - start}]")
            count += end - start
            at = end
        merged = " || ".join([*pieces, f"v[{at + 1}:]"])
        # Only literals and numbers are put in.
        return f"(SELECT {merged} AS v FROM (SELECT v, {self._local(taken, quoted=quoted)} AS l FROM {values}))"  # noqa: S608

    def _local(self, texts: str, *, quoted: bool) -> str:
        """Return the list of texts, with those that are instants in the zone."""
        text = "CASE WHEN starts_with(r, '\"') THEN r[2:-2] ELSE r END" if quoted else "r"
        return _steps(
            texts,
            f"{{'x': r, 't': {text}}}",
            _READ,
            f"{{'x': r.x, 's': r.s, 'f': r.f, 'y': year({_TIMESTAMP}), 'w': r.s - {_YEAR_START}}}",
            f"{{'x': r.x, 's': r.s, 'f': r.f, 'w': r.w, 'e': {self._entry()}}}",
            f"{{'x': r.x, 's': r.s, 'f': r.f, 'o': {self._place()}}}",
            self._written(quoted=quoted),
        )

    def _entry(self) -> str:
        """Return the number, from 0, of the entry of a year."""
        first, last = self._offsets.first, self._offsets.last
        kind = (
            "2 * (isodow(make_date(r.y::INTEGER, 1, 1)) - 1) "
            "+ (r.y % 4 = 0 AND (r.y % 100 <> 0 OR r.y % 400 = 0))::INTEGER"
        )
        own = f"WHEN r.y <= {first} THEN 0 WHEN r.y <= {last} THEN r.y - {first}"
        return f"CASE {own} ELSE {last - first + 1} + {kind} END"

    def _place(self) -> str:
        """Return the place, from 1, of the offset of a second of a year: as many changes lie before it."""
        width = self._offsets.width
        changes, places = _list(self._offsets.changes, "INTEGER"), _list(self._offsets.places, "INTEGER")
        passed = [f"(r.w >= {changes}[r.e * {width} + {number}])::INTEGER" for number in range(1, width + 1)]
        return f"1 + {places}[r.e * {width + 1} + {' + '.join(['1', *passed])}]"

    def _written(self, *, quoted: bool) -> str:
        offsets = self._offsets.offsets
        moved = f"(r.s + {_list(offsets, 'INTEGER')}[r.o])"
        clock = f"replace(CAST(make_timestamp({moved} * 1000000) AS VARCHAR), ' ', 'T')"
        parts = [clock, "r.f", f"{_list([offset_text(one) for one in offsets], 'VARCHAR')}[r.o]"]
        text = " || ".join(["'\"'", *parts, "'\"'"] if quoted else parts)
        return f"CASE WHEN {moved} BETWEEN {_EARLIEST} AND {_LATEST} THEN {text} ELSE r.x END"


def offset_text(seconds: int) -> str:
    """Return an offset as ISO 8601 has it, with seconds where it has some, as before a zone had a standard time."""
    sign, size = "-" if seconds < 0 else "+", abs(seconds)
    minutes, rest = divmod(size, 60)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{rest:02}" if rest else "")


def _steps(values: str, *steps: str) -> str:
    """Apply one expression of `r` after the other: each needs what the last one made more than once."""
    for step in steps:
        values = f"list_transform({values}, lambda r: {step})"
    return values


def _list(values: Sequence[object], kind: str) -> str:
    # One literal is read faster than a list of them.
    return f"({literal('[' + ','.join(map(str, values)) + ']')}::{kind}[])"


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield places that follow one another as the first and the one after the last."""
    start = 0
    for number, place in enumerate(places):
        if number + 1 == len(places) or places[number + 1] != place + 1:
            yield places[start], place + 1
            start = number + 1
