"""The sample documents, one at a time: a pure function of seed, index, row number and end of time.

Any row can be made alone, so a test may ask for what it needs without storing anything. ``files`` and ``loading``
write them; tests and benchmarks compare against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from tasks_service.sample.baskets import transaction
from tasks_service.sample.draws import Draws
from tasks_service.sample.goods import product, variant
from tasks_service.sample.moments import milliseconds
from tasks_service.sample.people import user, voucher, wallet_entry

MAKERS: dict[str, Callable[[Draws, int, int], dict[str, Any]]] = {
    "transactions": transaction,
    "users": user,
    "vouchers": voucher,
    "wallet-ledger": wallet_entry,
    "products": product,
    "product-variants": variant,
}


def this_hour() -> datetime:
    """The start of the current hour in UTC: the end of the data where nobody names one."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def documents(
    index: str, rows: int, *, seed: int = 0, until: datetime | None = None, start: int = 0
) -> Iterator[dict[str, Any]]:
    """The documents of rows ``start`` to before ``start + rows``.

    Args:
        index: one of the six sample indices.
        rows: how many.
        seed: another seed, other documents.
        until: aware; all that has happened lies before it, most of it in the two years before. The start of the
            current hour by default.
        start: the first row.

    Raises:
        KeyError: no such sample index.
    """
    make = MAKERS[index]
    end = milliseconds(until or this_hour())
    for row in range(start, start + rows):
        yield make(Draws(seed, index, row), row, end)


def raw_documents(
    index: str, rows: int, *, seed: int = 0, until: datetime | None = None, start: int = 0
) -> Iterator[bytes]:
    """The same documents as the JSON bytes every store is given: compact, UTF-8, on one line."""
    encode = msgspec.json.Encoder().encode
    for document in documents(index, rows, seed=seed, until=until, start=start):
        yield encode(document)
