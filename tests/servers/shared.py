"""`make servers`: every test server, kept until Ctrl-C, for any number of test runs that join them.

    python -m tests.servers.shared [NAME ...]    # only these

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
    wanted = [SERVERS[name] for name in sys.argv[1:] or SERVERS]
    with keeper.leading() as run:
        for specification in wanted:
            keeper.begin(specification)
        for specification in wanted:
            keeper.attach(specification)
        sys.stdout.write(f"export {keeper.RUN_VARIABLE}={run}\n")
        sys.stdout.flush()
        signal.sigwait(stop)


if __name__ == "__main__":
    main()
