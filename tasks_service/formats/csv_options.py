"""The options of a CSV file: delimiter, byte order mark, formula guard, nested lists.

What lives here is the reading of `target.options` for csv, with a fault for whatever is not right. Called by
registry.py and csv_encoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks_service.errors import Fault
from tasks_service.formats.nested import NESTED_OPTIONS, nested_option_faults

OPTIONS = ("bom", "delimiter", "formula_guard", *NESTED_OPTIONS)
_POINTER = "/target/options"
_NOT_DELIMITERS = frozenset('"\r\n\0')


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How a CSV file is written.

    `formula_guard`: with `escape` a cell or header that a spreadsheet would take for a formula gets an apostrophe
    in front; with `off` such cells are counted. Rows end in CR LF, as RFC 4180 has it.
    """

    delimiter: str = ","
    bom: bool = False
    formula_guard: Literal["off", "escape"] = "off"


def csv_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the options, each fault with its pointer under /target/options."""
    faults = [
        Fault(f"{_POINTER}/{name}", "unknown_option", f"csv has the options {', '.join(OPTIONS)}.")
        for name in options
        if name not in OPTIONS
    ]
    delimiter = options.get("delimiter", ",")
    if not isinstance(delimiter, str) or not _lawful(delimiter):
        faults.append(
            Fault(
                f"{_POINTER}/delimiter",
                "invalid_option",
                'The delimiter is one character, not a quote, line break or NUL, e.g. "," or ";" or a tab.',
            )
        )
    if not isinstance(options.get("bom", False), bool):
        faults.append(Fault(f"{_POINTER}/bom", "invalid_option", "bom is true or false."))
    if options.get("formula_guard", "off") not in ("off", "escape"):
        faults.append(Fault(f"{_POINTER}/formula_guard", "invalid_option", "formula_guard is off or escape."))
    return faults + nested_option_faults(options)


def _lawful(delimiter: str) -> bool:
    surrogate = any("\ud800" <= character <= "\udfff" for character in delimiter)
    return len(delimiter) == 1 and delimiter not in _NOT_DELIMITERS and not surrogate


def csv_options(options: Mapping[str, Any]) -> CsvOptions:
    """Return options that have no faults as an object."""
    return CsvOptions(**{name: value for name, value in options.items() if name not in NESTED_OPTIONS})
