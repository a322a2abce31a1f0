"""The local download link: a signed, opaque token in a path, and nothing else.

Pure: the token names one generation of one object, the name it downloads as, its content type and its end,
under HMAC-SHA256. What lives here: making and judging tokens, and hiding them from logs. What does not: files
(local.py) and HTTP (api/files.py). A token is a secret while it lasts: who has it may download.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from tasks_service.errors import ForbiddenError

_PURPOSE = b"tasks-service local download link 1"
_DIGEST_SIZE = hashlib.sha256().digest_size
_LONGEST_TOKEN = 4096

_LINK_PATH = re.compile(r"(?P<folder>(?:^|/)files/+)(?P<token>[^/?#\s]+)", re.IGNORECASE)
_HIDDEN = "[link]"


@dataclass(frozen=True)
class Link:
    """What a token says: which generation of which object is served, as what, until when (Unix seconds)."""

    name: str
    generation: int
    file_name: str
    content_type: str
    expires: int


class LinkSigner:
    """Makes and judges tokens under a key of its own, derived from the service's secret key."""

    def __init__(self, secret_key: bytes) -> None:
        self._key = hmac.digest(secret_key, _PURPOSE, hashlib.sha256)

    def token(self, link: Link) -> str:
        """Return the link as url-safe characters."""
        payload = json.dumps(asdict(link), separators=(",", ":"), ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(self._digest(payload) + payload).rstrip(b"=").decode("ascii")

    def read(self, token: str, now: datetime) -> Link:
        """Return what a token says.

        Raises ForbiddenError where it was altered or made under another key, and where its time is over.
        Which of its bytes was altered cannot be learnt from how long the answer takes.
        """
        raw = _decoded(token)
        digest, payload = raw[:_DIGEST_SIZE], raw[_DIGEST_SIZE:]
        if not hmac.compare_digest(digest, self._digest(payload)):
            raise _altered()
        link = Link(**json.loads(payload))
        if now.astimezone(UTC).timestamp() >= link.expires:
            raise ForbiddenError(
                "This link has expired; ask for a new one with GET /tasks/{id}/download_url "
                "or GET /runs/{id}/download_url."
            )
        return link

    def _digest(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, hashlib.sha256)


def redact_path(path: str) -> str:
    """Return a request's path or URL as a log may hold it: `/files/<token>/x` becomes `/files/[link]/x`.

    Percent-encoding is undone where it hides a link: the server routes `/%66iles/...` like `/files/...`.
    """
    for form in (path, unquote(path)):
        if _LINK_PATH.search(form):
            return _LINK_PATH.sub(rf"\g<folder>{_HIDDEN}", form)
    return path


def _decoded(token: str) -> bytes:
    """Return the bytes of a token in its one spelling: base64 has several of the same bytes."""
    if len(token) > _LONGEST_TOKEN:
        raise _altered()
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (ValueError, binascii.Error) as error:
        raise _altered() from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != token:
        raise _altered()
    return raw


def _altered() -> ForbiddenError:
    return ForbiddenError(
        "This link is not one the service made, or it was altered; use it exactly as it was handed out."
    )
