"""Customers' buckets for tests: an empty one of each kind, what lies in it, and what may go wrong on the way there.

Used by tests/contract/test_destinations.py, tests/integration/test_pushes.py and tests/chaos, so that every kind is
asked the same questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tasks_service.config import DestinationSettings, GcsSettings
from tasks_service.destinations.registry import Destinations
from tasks_service.storage.gcs import GcsStorage
from tests.servers.gcs import Gcs
from tests.servers.s3 import ACCESS_KEY_ID, REGION, S3, SECRET_ACCESS_KEY
from tests.storages import HASTE, QUICK, put

KINDS = ["gcs", "s3"]
NAME = "acme"
CHAIN = 1764
PREFIX = "from/exports"

MOMENTS: dict[str, dict[str, tuple[str, int]]] = {
    "gcs": {
        "look": ("object.get", 0),
        "begin": ("upload.start", 0),
        "first bytes": ("upload.chunk", 0),
        "last bytes": ("upload.chunk", 1),
        "look again": ("object.get", 1),
        "manifest: begin": ("upload.start", 1),
        "manifest: bytes": ("upload.chunk", 2),
        "manifest: look again": ("object.get", 3),
    },
    "s3": {
        "look": ("object.head", 0),
        "begin": ("upload.create", 0),
        "first bytes": ("upload.part", 0),
        "last bytes": ("upload.part", 1),
        "finish": ("upload.complete", 0),
        "look again": ("object.head", 1),
        "manifest: bytes": ("object.put", 0),
        "manifest: look again": ("object.head", 3),
    },
}
"""The calls of a push of a file of several pieces and its manifest: what each is called, and how many come before."""


@dataclass(frozen=True)
class Bucket:
    """A customer's bucket.

    Attributes:
        settings: of the destination, as the configuration has them.
        place: its URI.
        held: what lies in it: names and bytes.
        plant: puts something of somebody else's there.
        unfinished: names of what was begun there and neither finished nor given up, as far as that can be seen.
        lapse: ends what was begun there and has no byte, as a lifecycle rule does; returns how many there were.
        faults: what is to go wrong (tests/servers/gcs_faults.py).
        creation: what beginning a small object is called there.
        deletion: what deleting is called there.
        misreport: lets it report another checksum than is true, once.
        rows: documents of a kilobyte that make a file of several pieces there.
    """

    settings: DestinationSettings
    place: str
    held: Callable[[], dict[str, bytes]]
    plant: Callable[[str, bytes], object]
    unfinished: Callable[[], list[str]]
    lapse: Callable[[], int]
    faults: Any
    creation: str
    deletion: str
    misreport: Callable[[], None]
    rows: int

    @property
    def told(self) -> dict[str, Any]:
        """The settings as a document: of texts, numbers and lists, secrets in plain."""
        document = self.settings.model_dump(mode="json", exclude_unset=True)
        secret = self.settings.secret_access_key
        return document | ({} if secret is None else {"secret_access_key": secret.get_secret_value()})

    def destinations(
        self, *, hasty: bool = False, clock: Callable[[], float] = time.monotonic, **changes: Any
    ) -> Destinations:
        """The registry of a configuration with this one destination."""
        settings = {NAME: DestinationSettings.model_validate(self.told | changes)}
        return Destinations(settings, patience=HASTE if hasty else QUICK, clock=clock)


def bucket_of(kind: str, request: pytest.FixtureRequest) -> Bucket:
    """Make an empty bucket of that kind."""
    return gcs_bucket(request.getfixturevalue("gcs")) if kind == "gcs" else s3_bucket(request.getfixturevalue("s3"))


def s3_bucket(s3: S3) -> Bucket:
    """Make an empty bucket of the server."""
    name = s3.bucket()

    def held() -> dict[str, bytes]:
        listed = s3.client.list_objects_v2(Bucket=name).get("Contents", ())
        return {one["Key"]: s3.client.get_object(Bucket=name, Key=one["Key"])["Body"].read() for one in listed}

    def unfinished() -> list[str]:
        return [one["Key"] for one in s3.client.list_multipart_uploads(Bucket=name).get("Uploads", ())]

    def lapse() -> int:
        begun = s3.client.list_multipart_uploads(Bucket=name).get("Uploads", ())
        uploads = [{"Bucket": name, "Key": one["Key"], "UploadId": one["UploadId"]} for one in begun]
        empty = [upload for upload in uploads if not s3.client.list_parts(**upload).get("Parts")]
        for upload in empty:
            s3.client.abort_multipart_upload(**upload)
        return len(empty)

    told = {"kind": "s3", "bucket": name, "chains": [CHAIN], "prefix": PREFIX, "region": REGION}
    reached = {"endpoint": s3.endpoint, "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
    return Bucket(
        settings=DestinationSettings.model_validate(told | reached),
        place=f"s3://{name}",
        held=held,
        plant=lambda key, content: s3.client.put_object(Bucket=name, Key=key, Body=content),
        unfinished=unfinished,
        lapse=lapse,
        faults=s3.faults,
        creation="object.put",
        deletion="object.delete",
        misreport=lambda: s3.faults.misreport("object.head", {"X-Amz-Checksum-Crc32C": "AAAAAA=="}, skip=1),
        rows=9000,
    )


def gcs_bucket(gcs: Gcs) -> Bucket:
    """Make an empty bucket of the front."""
    name = gcs.bucket()
    seen = GcsStorage(GcsSettings(bucket=name, credentials_file=gcs.credentials_file, endpoint=gcs.endpoint))
    told = {"kind": "gcs", "bucket": name, "chains": [CHAIN], "prefix": PREFIX}
    reached = {"credentials_file": gcs.credentials_file, "endpoint": gcs.endpoint}
    return Bucket(
        settings=DestinationSettings.model_validate(told | reached),
        place=f"gs://{name}",
        held=lambda: {one.name: b"".join(seen.read(one)) for one in seen.list("")},
        plant=lambda name, content: put(seen, content, name),
        unfinished=list,
        lapse=int,
        faults=gcs.faults,
        creation="upload.start",
        deletion="object.delete",
        misreport=lambda: gcs.faults.misreport("object.get", {"crc32c": "AAAAAA=="}, skip=1),
        rows=5000,
    )
