"""The options of an XML file: whether its elements are typed, and what becomes of nested lists.

What lives here is the check of `target.options` for xml, with a fault for whatever is not right. Called by
registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks_service.errors import Fault
from tasks_service.formats.nested import NESTED_OPTIONS, nested_option_faults

OPTIONS = ("typed", *NESTED_OPTIONS)
_POINTER = "/target/options"


def xml_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the options, each fault with its pointer under /target/options."""
    faults = [
        Fault(f"{_POINTER}/{name}", "unknown_option", f"xml has the options {', '.join(OPTIONS)}.")
        for name in options
        if name not in OPTIONS
    ]
    if not isinstance(options.get("typed", True), bool):
        faults.append(Fault(f"{_POINTER}/typed", "invalid_option", "typed is true or false."))
    return faults + nested_option_faults(options)
