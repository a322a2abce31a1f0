"""Amazon S3 for the tests: a real S3 server shared by the run, and a front of our own in each process.

The server checks signatures, checksums, preconditions and the rules of multipart uploads as S3 does; the front adds the
faults of a test. By hand: ``python -m tests.servers.s3``.
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.gcs_faults import Faults
from tests.servers.keeper import Running, Server, run_by_hand
from tests.servers.parts import cached, run
from tests.servers.processes import StartError, end, free_port, start, tail, wait_until
from tests.servers.s3_front import Front

VERSION = "v1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
BOOT_SECONDS = 60.0
PORT_TRIES = 5
REGION = "us-east-1"
ACCESS_KEY_ID = "access-key-of-the-tests"
SECRET_ACCESS_KEY = "secret-of-the-tests"
OPTIONS = "--access {access} --secret {secret} --region {region} --port 127.0.0.1:{port} --keep-alive --quiet"


@dataclass(frozen=True, slots=True)
class Gateway(Server):
    """versitygw over a directory. What it keeps beside objects lies in files, so that any file system will do."""

    @property
    def name(self) -> str:
        """The server's name in the run directory."""
        return "s3"

    def prepare(self) -> None:
        """Build it."""
        _binary()

    def start(self, directory: Path) -> Running:
        """Start it on a free port."""
        log = directory / "output.log"
        for name in ("objects", "beside"):
            (directory / name).mkdir()
        for left in reversed(range(PORT_TRIES)):
            port = free_port()
            options = OPTIONS.format(access=ACCESS_KEY_ID, secret=SECRET_ACCESS_KEY, region=REGION, port=port)
            process = start(
                [
                    str(_binary()),
                    *options.split(),
                    *("posix", "--sidecar", str(directory / "beside"), str(directory / "objects")),
                ],
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


SERVER = Gateway()


@dataclass(frozen=True, slots=True)
class S3:
    """A storage to test against.

    Attributes:
        endpoint: the front's URL.
        faults: what is to go wrong, and what was asked (operations: s3_front.py).
        defects: exceptions of the front itself.
        client: boto3's, past the front: what it does meets no fault.
    """

    endpoint: str
    faults: Faults
    defects: list[str]
    client: Any

    def bucket(self) -> str:
        """Make a bucket nobody else uses; returns its name."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name


@contextmanager
def serving(upstream: str) -> Iterator[S3]:
    """A front before the server."""
    import boto3

    front = Front(upstream)
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    session = boto3.session.Session(
        aws_access_key_id=ACCESS_KEY_ID, aws_secret_access_key=SECRET_ACCESS_KEY, region_name=REGION
    )
    client = session.client("s3", endpoint_url=f"http://{upstream}")
    try:
        yield S3(front.endpoint, front.faults, front.defects, client)
    finally:
        client.close()
        front.faults.clear()
        front.shutdown()
        thread.join()
        front.server_close()


def _binary() -> Path:
    name = f"versitygw-{VERSION}"

    def fetch(directory: Path) -> Path:
        run(["go", "install", f"{MODULE}@{VERSION}"], what=name, environment={"GOBIN": str(directory)})
        return directory / "versitygw"

    return cached(name, fetch)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    run_by_hand(SERVER)
