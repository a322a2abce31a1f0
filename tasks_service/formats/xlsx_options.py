"""The options of an XLSX file: what becomes of dates, of null and of nested lists.

What lives here is the check of `target.options` for xlsx, with a fault for whatever is not right. Called by
registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks_service.errors import Fault
from tasks_service.formats.nested import NESTED_OPTIONS, nested_option_faults
from tasks_service.formats.null_text import NULL_OPTION, null_faults
from tasks_service.formats.zone_option import ZONE_OPTION, zone_faults

OPTIONS = ("dates", NULL_OPTION, ZONE_OPTION, *NESTED_OPTIONS)
_POINTER = "/target/options"


def xlsx_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the options, each fault with its pointer under /target/options."""
    faults = [
        Fault(f"{_POINTER}/{name}", "unknown_option", f"xlsx has the options {', '.join(OPTIONS)}.")
        for name in options
        if name not in OPTIONS
    ]
    if options.get("dates", "text") not in ("text", "excel"):
        faults.append(Fault(f"{_POINTER}/dates", "invalid_option", "dates is text or excel."))
    return faults + null_faults(options) + zone_faults(options) + nested_option_faults(options)
