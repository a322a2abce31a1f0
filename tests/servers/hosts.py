"""Hosts of a test's own: network namespaces on one bridge, each with its address, as real machines in one network.

Only root may make them, and only on Linux with iproute2; where that cannot be had the test is skipped with the reason,
and fails under ``CI=true``. Nothing of the machine's own network is touched: bridge and cables lie in the namespaces.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.servers.parts import UnavailableError, run, under_ci

T = TypeVar("T")

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace.

    Attributes:
        namespace: its name.
        address: its address in the network of the test.
        switch: the namespace that holds the bridge.
        port: the name of the bridge's end of its cable.
    """

    namespace: str
    address: str
    switch: str
    port: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The start of a command line that is to run on this host."""
        return ("ip", "netns", "exec", self.namespace)

    def unplug(self) -> None:
        """Pull the cable at the switch: packets vanish, both ways, and nobody is told."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        """Put the cable back."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    @contextmanager
    def caller(self) -> Iterator[Callable[[Callable[[], T]], T]]:
        """Yield a function that calls another from this host: its sockets are this host's."""

        def enter() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
            try:
                if libc.setns(descriptor, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)

        with ThreadPoolExecutor(1, initializer=enter) as pool:
            yield lambda function: pool.submit(function).result(timeout=120)


@contextmanager
def network(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Make hosts that reach each other, and take them away afterwards.

    Raises:
        UnavailableError: they cannot be had here; the message says why.
    """
    _require()
    tag = uuid.uuid4().hex[:6]
    switch = f"tasks-{tag}-switch"
    with ExitStack() as undo:
        _add(switch, undo)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = {}
        for number, name in enumerate(names, start=1):
            host = Host(f"tasks-{tag}-{name}", f"10.77.0.{number}", switch, f"port{number}")
            _add(host.namespace, undo)
            _ip("-n", switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", switch, "link", "set", host.port, "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            hosts[name] = host
        yield hosts


def _add(namespace: str, undo: ExitStack) -> None:
    try:
        _ip("netns", "add", namespace)
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"this machine makes no network namespace: {error.stderr.strip()}") from error
    undo.callback(_ip, "netns", "delete", namespace)


def _require() -> None:
    if os.getuid() != 0:
        raise UnavailableError("only root may make hosts of its own (network namespaces)")
    if shutil.which("ip") is None and under_ci() and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "-q", "update"], what="the list of packages", environment=quiet)
        run(["apt-get", "-qy", "install", "iproute2"], what="iproute2", environment=quiet)
    for command in ("ip", "setpriv"):
        if shutil.which(command) is None:
            raise UnavailableError(f"hosts of its own need the command {command} (iproute2, util-linux)")
    if not Path("/proc/self/ns/net").exists():
        raise UnavailableError("hosts of its own need Linux")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
