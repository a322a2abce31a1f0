"""Fetch the parts of all test servers ahead of the tests, side by side: ``python -m tests.servers.prepare``.

Ends with 1 under ``CI=true`` where a part cannot be had; elsewhere it says so and ends with 0, because the
tests then skip by themselves.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.servers import elasticsearch, gcs, postgresql, s3
from tests.servers.keeper import Server
from tests.servers.parts import UnavailableError, under_ci

SERVERS: tuple[Server, ...] = (elasticsearch.SERVER_8, elasticsearch.SERVER_9, postgresql.SERVER, gcs.SERVER, s3.SERVER)


def _prepare(server: Server) -> str | None:
    try:
        server.prepare()
    except UnavailableError as error:
        return str(error)
    return None


def main() -> int:
    """Prepare all; returns the exit code."""
    started = time.monotonic()
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        problems = list(pool.map(_prepare, SERVERS))
    for server, problem in zip(SERVERS, problems, strict=True):
        sys.stdout.write(f"{server.name}: {problem or 'ready'}\n")
    sys.stdout.write(f"test servers looked after in {time.monotonic() - started:.1f} s\n")
    return 1 if under_ci() and any(problems) else 0


if __name__ == "__main__":
    sys.exit(main())
