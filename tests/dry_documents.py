"""What `dry_data` leaves of a document, as plain code that has nothing in common with the product's."""

from __future__ import annotations

from typing import Any


def dry(value: Any) -> Any:
    """A value without its empty members, at any depth; of documents, and of what they hold."""
    if isinstance(value, list):
        return [dry(one) for one in value]
    if not isinstance(value, dict):
        return value
    members = {name: dry(one) for name, one in value.items()}
    return {name: one for name, one in members.items() if one is not None and one not in ("", [], {})}
