"""Both stacks as a user runs them, each started once: `embedded` (nothing but Python) and `full` (PostgreSQL,
Elasticsearch, Google Cloud Storage). Every acceptance test that asks for `service` runs on both."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks_service.sample import documents, load_elasticsearch, write_files
from tests.acceptance.service import Service, running

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = {
    "transactions": 3000,
    "users": 1500,
    "vouchers": 1500,
    "wallet-ledger": 1500,
    "products": 6000,
    "product-variants": 4000,
}
CHAIN, OTHER = 1764, 2001


def rows_of(index: str, chain: int, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[dict[str, Any]]:
    """The documents an export must hold, straight from the generator: no engine, no segment."""
    return [d for d in documents(index, ROWS[index], until=UNTIL) if d["chain_id"] == chain and keep(d)]


def full_environment(request: pytest.FixtureRequest, prefix: str) -> dict[str, str]:
    """The environment of the full stack; `prefix` starts the names of its indices."""
    gcs = request.getfixturevalue("gcs_front")
    prefixes = {
        "transactions": "Transaction",
        "users": "User",
        "vouchers": "Voucher",
        "wallet-ledger": "Wallet",
        "products": "Product",
        "product-variants": "ProductVariant",
    }
    indices = {name: {"file_prefix": p, "source": f"{prefix}{name}"} for name, p in prefixes.items()}
    return {
        "TASKS_DATABASE__URL": request.getfixturevalue("postgresql_database")(),
        "TASKS_SOURCE__KIND": "elasticsearch",
        "TASKS_ELASTICSEARCH__URLS": json.dumps([request.getfixturevalue("elasticsearch_url")]),
        "TASKS_STORAGE__KIND": "gcs",
        "TASKS_GCS__BUCKET": gcs.bucket(),
        "TASKS_GCS__ENDPOINT": gcs.endpoint,
        "TASKS_GCS__CREDENTIALS_FILE": str(gcs.credentials_file),
        "TASKS_INDICES": json.dumps(indices),
    }


@pytest.fixture(scope="session", params=["embedded", "full"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    environment = {}
    if request.param == "full":
        prefix = f"acceptance-{uuid.uuid4().hex[:8]}-"
        load_elasticsearch(request.getfixturevalue("elasticsearch_url"), ROWS, until=UNTIL, prefix=prefix)
        environment = full_environment(request, prefix)
    else:
        write_files(directory / "documents", ROWS, until=UNTIL)
    with running(Service(directory, environment)) as started:
        yield started
