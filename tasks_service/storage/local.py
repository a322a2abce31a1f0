"""Storage in a local directory, with the semantics of a bucket: the embedded default.

What lives here: the port over the tree of files, and its links. What does not: how files lie (local_tree.py),
how one is written (local_upload.py), tokens (links.py), HTTP (api/files.py). Called by app.py, export.py,
sweeper.py, api/.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import structlog

from tasks_service.config import LocalSettings
from tasks_service.errors import GoneError
from tasks_service.storage import SignedUrl, StoredObject
from tasks_service.storage.links import Link, LinkSigner
from tasks_service.storage.local_tree import Tree
from tasks_service.storage.local_upload import LocalUpload, translated
from tasks_service.storage.names import checked_name, checked_prefix, source_gone

log = structlog.stdlib.get_logger(__name__)


_PIECE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class LinkedFile:
    """What a link serves: one generation, where it lies, and as what it downloads."""

    stored: StoredObject
    path: Path
    file_name: str
    content_type: str


class LocalStorage:
    """Objects in a directory that every process sees. Nothing is touched before the first use."""

    def __init__(
        self,
        settings: LocalSettings,
        *,
        public_url: str,
        secret_key: bytes,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take where files lie, the base of links, the key that signs them, and the clock they end by."""
        self._tree = Tree(settings.directory)
        self._public_url = public_url.rstrip("/")
        self._signer = LinkSigner(secret_key)
        self._now = now
        self._swept_by: int | None = None

    def upload(self, name: str, *, content_type: str) -> AbstractContextManager[LocalUpload]:  # noqa: ARG002 -- travels in the link
        """Begin an object; see the port. Raises StorageError, StorageUnavailableError."""
        return self._upload(checked_name(name))

    @contextmanager
    def _upload(self, name: str) -> Generator[LocalUpload]:
        self._prepare()
        upload = LocalUpload(self._tree, name)
        try:
            upload.begin()
            yield upload
        finally:
            upload.end()

    def compose(self, name: str, sources: Sequence[StoredObject], *, content_type: str) -> StoredObject:
        """Copy the objects, one after another, to a new one."""
        with self.upload(name, content_type=content_type) as upload:
            for source in sources:
                for piece in self.read(source):
                    upload.write(piece)
            return upload.commit()

    def read(self, stored: StoredObject) -> Iterator[bytes]:
        """Yield the bytes of this generation; a deletion while they are read changes nothing."""
        with translated():
            found = self._tree.find(checked_name(stored.name))
            if found is None or found.stored.generation != stored.generation:
                raise source_gone()
            try:
                file = found.path.open("rb")
            except FileNotFoundError as error:
                raise source_gone() from error
        with file:
            while True:
                with translated():
                    piece = file.read(_PIECE_BYTES)
                if not piece:
                    return
                yield piece

    def stat(self, name: str) -> StoredObject | None:
        """Return the object, or None."""
        with translated():
            found = self._tree.find(checked_name(name))
        return found.stored if found else None

    def delete(self, name: str, *, generation: int | None) -> bool:
        """Delete the object if it is that generation; False where it is not there."""
        with translated():
            return self._tree.delete(checked_name(name), generation)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose name begins with the prefix, in no particular order."""
        with translated():
            for found in self._tree.walk(checked_prefix(prefix)):
                yield found.stored

    def sign(self, stored: StoredObject, *, file_name: str, content_type: str, lifetime: timedelta) -> SignedUrl:
        """Make a link to this generation, which the service itself serves under /files/."""
        expires = int((self._now() + lifetime).timestamp())
        link = Link(
            name=checked_name(stored.name),
            generation=stored.generation,
            file_name=file_name,
            content_type=content_type,
            expires=expires,
        )
        url = f"{self._public_url}/files/{self._signer.token(link)}/{quote(file_name, safe='')}"
        return SignedUrl(url=url, expires_at=datetime.fromtimestamp(expires, UTC))

    def verify(self, token: str, now: datetime | None = None) -> LinkedFile:
        """Return what a link serves at `now` (unless given, by the storage's own clock).

        Raises ForbiddenError (altered, expired) and GoneError (that generation is no longer there).
        """
        link = self._signer.read(token, now or self._now())
        with translated():
            found = self._tree.find(checked_name(link.name))
        if found is None or found.stored.generation != link.generation:
            raise GoneError
        return LinkedFile(found.stored, found.path, link.file_name, link.content_type)

    def check(self, *, writing: bool = True) -> None:
        """Make and remove a directory where uploads go, or only read; raise in plain words where that cannot be."""
        if not writing:
            next(self.list(""), None)
            return
        self._prepare()
        with translated(), self._tree.lock(fcntl.LOCK_SH):  # a sweep would take it for a dead upload
            probe = self._tree.uploads / f"check-{secrets.token_hex(8)}"
            probe.mkdir()
            probe.rmdir()

    def close(self) -> None:
        """Do nothing: no file is held between calls."""

    def sweep_uploads(self) -> int:
        """Remove what killed uploads left in the temporary area, not what lives; return how many."""
        with translated():
            swept = self._tree.sweep()
        if swept:
            log.info("storage.uploads_swept", uploads=swept)
        return swept

    def _prepare(self) -> None:
        """Make the directories, and once in each process clear away what killed uploads left."""
        if self._swept_by != os.getpid():
            self.sweep_uploads()
            self._swept_by = os.getpid()
        else:
            with translated():
                self._tree.make()
