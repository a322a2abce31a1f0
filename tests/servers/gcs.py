"""Google Cloud Storage for the tests: an emulator shared by the run, and a front of our own in each process.

By hand: ``python -m tests.servers.gcs`` (prints where it listens and where its credentials lie).
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.gcs_faults import Clock, Faults
from tests.servers.gcs_front import Front
from tests.servers.keeper import Running, Server
from tests.servers.parts import cached, run
from tests.servers.processes import StartError, end, free_port, start, tail, wait_until

VERSION = "v1.55.1"
MODULE = "github.com/fsouza/fake-gcs-server"
BOOT_SECONDS = 60.0
PORT_TRIES = 5
PROJECT = "tests"
OPTIONS = "-scheme http -host 127.0.0.1 -port {port} -public-host 127.0.0.1:{port} -backend memory -log-level warn"
EMAIL = "exporter@tests.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Emulator(Server):
    """fake-gcs-server, all in memory."""

    @property
    def name(self) -> str:
        """The server's name in the run directory."""
        return "gcs"

    def prepare(self) -> None:
        """Build the emulator."""
        _binary()

    def start(self, directory: Path) -> Running:
        """Start it on a free port."""
        log = directory / "output.log"
        for left in reversed(range(PORT_TRIES)):
            port = free_port()
            process = start(
                [str(_binary()), *OPTIONS.format(port=port).split()],
                log=log,
                cwd=directory,
            )
            try:
                wait_until(lambda port=port: _answers(port), process, log=log, seconds=BOOT_SECONDS)
            except StartError:
                if left and "address already in use" in tail(log):
                    continue
                raise
            return Running({"upstream": f"127.0.0.1:{port}"}, process.poll, lambda: end(process))  # noqa: B023 -- bound by the return
        raise StartError("no free port")


SERVER = Emulator()


@dataclass(frozen=True, slots=True)
class Gcs:
    """A storage to test against.

    Attributes:
        endpoint: for ``client_options={"api_endpoint": ...}``; also serves the token exchange, the metadata
            server (``GCE_METADATA_HOST``) and IAM's ``signBlob``.
        credentials_file: the key of a throw-away service account.
        email: that account's.
        project: a project name.
        faults: what is to go wrong, and what was asked.
        clock: by which signed links are judged.
        defects: exceptions of the front itself.
    """

    endpoint: str
    credentials_file: Path
    email: str
    project: str
    faults: Faults
    clock: Clock
    defects: list[str]

    def bucket(self) -> str:
        """Make a bucket nobody else uses; returns its name."""
        name = f"bucket-{uuid.uuid4().hex}"
        request = urllib.request.Request(  # noqa: S310 -- loopback
            f"{self.endpoint}/storage/v1/b?project={self.project}",
            data=json.dumps({"name": name}).encode(),
            headers={"Authorization": "Bearer token-of-the-tests", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 -- loopback
            return name


@contextmanager
def serving(upstream: str, directory: Path) -> Iterator[Gcs]:
    """A front before the emulator at ``upstream``, with a new key written to ``directory``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    front = Front(upstream, EMAIL, key)
    account = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": uuid.uuid4().hex,
        "private_key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": f"{front.endpoint}/token",
    }
    path = directory / "service-account.json"
    path.write_text(json.dumps(account))
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Gcs(front.endpoint, path, EMAIL, PROJECT, front.faults, front.clock, front.defects)
    finally:
        front.faults.clear()
        front.shutdown()
        thread.join()
        front.server_close()
        for session in front.sessions.values():
            session.content.close()


def _binary() -> Path:
    name = f"fake-gcs-server-{VERSION}"

    def fetch(directory: Path) -> Path:
        run(["go", "install", f"{MODULE}@{VERSION}"], what=name, environment={"GOBIN": str(directory)})
        return directory / "fake-gcs-server"

    return cached(name, fetch)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_internal/healthcheck", timeout=5):
            return True
    except OSError:
        return False


def main() -> None:
    """Run emulator and front in the foreground until interrupted."""
    with tempfile.TemporaryDirectory(prefix="tasks-service-server-") as name:
        directory = Path(name)
        SERVER.prepare()
        running = SERVER.start(directory)
        try:
            with serving(running.state["upstream"], directory) as gcs:
                sys.stdout.write(f"{gcs.endpoint} with the key {gcs.credentials_file} and the bucket {gcs.bucket()}\n")
                sys.stdout.flush()
                threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            running.end()


if __name__ == "__main__":
    main()
