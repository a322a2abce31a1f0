"""Nothing of a test run outlives it, however its leader died."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.keeper import ROOT, RUN_VARIABLE
from tests.waiting import eventually

LEADER = """
import sys, time
from tests.servers import keeper
from tests.servers.parts import UnavailableError
with keeper.leading() as run:
    try:
        state = keeper.attach("tests.servers.postgresql:SERVER")
    except UnavailableError as error:
        print("unavailable", error, flush=True)
    else:
        print(run, state["port"], keeper._keepers[0].pid, flush=True)
    sys.stdin.read()
"""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["killed", "terminated", "in order"])
def test_servers_end_with_their_leader(how: signal.Signals | None, postgresql_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    with subprocess.Popen(
        [sys.executable, "-c", LEADER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as leader:
        assert leader.stdin
        assert leader.stdout
        run, port, _ = leader.stdout.readline().split()
        assert _listens(int(port))
        if how is None:
            leader.stdin.close()
        else:
            leader.send_signal(how)
        leader.wait(60)
    eventually(lambda: not _listens(int(port)), what="PostgreSQL to end")
    eventually(lambda: not Path(run).exists(), what="the run directory to go")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word on a dead parent is Linux's")
def test_a_server_ends_with_its_killed_keeper(postgresql_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    with subprocess.Popen(
        [sys.executable, "-c", LEADER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as leader:
        assert leader.stdout
        _, port, keeper = leader.stdout.readline().split()
        assert _listens(int(port))
        os.kill(int(keeper), signal.SIGKILL)
        eventually(lambda: not _listens(int(port)), what="PostgreSQL to end")
