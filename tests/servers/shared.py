"""`make servers`: every test server, kept until Ctrl-C, for any number of test runs that join them.

A run joins where ``TASKS_TEST_RUN`` names the directory printed here; without it each run starts servers of its own.
"""

from __future__ import annotations

import signal
import sys

from tests.servers import keeper
from tests.servers.fixtures import SERVERS


def main() -> None:
    """Lead a run that no test belongs to, until SIGINT or SIGTERM."""
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with keeper.leading() as run:
        for specification in SERVERS.values():
            keeper.begin(specification)
        for specification in SERVERS.values():
            keeper.attach(specification)
        sys.stdout.write(f"export {keeper.RUN_VARIABLE}={run}\n")
        sys.stdout.flush()
        signal.sigwait(stop)


if __name__ == "__main__":
    main()
