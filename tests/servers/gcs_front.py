"""A front before the storage emulator that checks and does what the emulator does not.

It asks for an access token, enforces preconditions and generations on every operation, runs resumable uploads
by the real rules (``gcs_sessions``), judges signed links (``gcs_signatures``), answers the token exchange,
the metadata server and IAM's ``signBlob``, and carries out the faults of a test (``gcs_faults``). Everything
else is passed on. It runs in threads of the process that uses it, one a process; the emulator is shared.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers.gcs_answers import Answer, chunks, multipart_name, pieces, problem, success, xml_problem
from tests.servers.gcs_faults import Clock, Fault, Faults
from tests.servers.gcs_sessions import BadUploadError, Session
from tests.servers.gcs_signatures import RefusedError, check

TOKEN = "token-of-the-tests"
UPSTREAM_SECONDS = 120.0
PASSED_ON = {"accept-encoding", "content-type", "range", "x-goog-encryption-algorithm"}
PASSED_BACK = re.compile(
    r"content-(type|range|disposition|encoding|language)|range|etag|last-modified|cache-control|x-goog-.*|accept-ranges",
    re.IGNORECASE,
)


class ConnectionLostError(Exception):
    """The connection is to be reset instead of answered."""


class Front(ThreadingHTTPServer):
    """The listening front.

    Args:
        upstream: ``host:port`` of the emulator.
        email: of the only account there is.
        key: its private key.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, upstream: str, email: str, key: rsa.RSAPrivateKey) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.email = email
        self.key = key
        self.faults = Faults()
        self.clock = Clock()
        self.sessions: dict[str, Session] = {}
        self.defects: list[str] = []
        self.changing = threading.Lock()  # between looking at a generation and changing the object
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Front
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve any method."""
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.raw_path, self.raw_query = parts.path, parts.query
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.lower = {name.lower(): value for name, value in self.headers.items()}
        operation, act = self._route()
        try:
            fault = self.server.faults.meet(operation, self.client_address)
            if fault and fault.status:
                self._body()
                self._answer(problem(fault.status, fault.message), None)
                return
            answer = act(fault)
            if fault and fault.changes:
                answer = answer._replace(body=json.dumps(json.loads(answer.body) | fault.changes).encode())
            if fault and fault.lose_answer:
                raise ConnectionLostError  # noqa: TRY301
            self._answer(answer, fault)
        except ConnectionLostError:
            self._reset()
        except BadUploadError as error:
            self._answer(problem(error.status, str(error)), None)
        except RefusedError as error:
            self._answer(xml_problem(error.status, error.code, str(error)), None)
        except ConnectionError:
            self.close_connection = True  # the client went away
        except Exception as error:  # noqa: BLE001 -- a defect of the front: the test that met it must fail
            self.server.defects.append(f"{self.command} {self.raw_path}: {error!r}")
            self._reset()

    def _route(self) -> tuple[str, Callable[[Fault | None], Answer]]:
        for method, pattern, operation, name in ROUTES:
            match = re.fullmatch(pattern, self.raw_path)
            if match and re.fullmatch(method, self.command):
                self.names = {key: unquote(value) for key, value in match.groupdict().items()}
                said, served_by = self._upload_operation() if operation == "upload" else (operation, name)
                act: Callable[[Fault | None], Answer] = getattr(self, served_by)
                return said, act if served_by in OPEN else self._authorized(act)
        return "unknown", lambda _: problem(501, f"{self.command} {self.raw_path} is not served here")

    def _upload_operation(self) -> tuple[str, str]:
        if self.query.get("uploadType") != "resumable":
            return "upload.whole", "upload_whole"
        if "upload_id" not in self.query:
            if self.command == "DELETE":  # what the library sends to end a session names no session
                return "upload.cancel", "nothing"
            return "upload.start", "upload_start"
        if self.command == "DELETE":
            return "upload.cancel", "upload_chunk"
        asking = self.lower.get("content-range", "").startswith("bytes */") and self.lower.get("content-length") == "0"
        return ("upload.status" if asking else "upload.chunk"), "upload_chunk"

    def _authorized(self, act: Callable[[Fault | None], Answer]) -> Callable[[Fault | None], Answer]:
        if self.lower.get("authorization") == f"Bearer {TOKEN}":
            return act
        return lambda _: (self._body(), problem(401, "Invalid Credentials"))[1]

    def _body(self, up_to: int | None = None) -> bytes:
        length = int(self.lower.get("content-length") or 0)
        return self.rfile.read(length if up_to is None else min(length, up_to))

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _answer(self, answer: Answer, fault: Fault | None) -> None:
        length = answer.length if answer.stream else len(answer.body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        left = length if fault is None or fault.reset_after is None else min(length, fault.reset_after)
        for piece in pieces(answer, left):
            self.wfile.write(piece)
        if left < length:
            self.wfile.flush()
            raise ConnectionLostError

    # -- identity -------------------------------------------------------------------------------------------

    def token(self, _: Fault | None) -> Answer:
        """The exchange of a signed assertion, or the metadata server, for an access token."""
        self._body()
        return success({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    def account(self, _: Fault | None) -> Answer:
        """The metadata server's word on the account of the machine."""
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return success({"email": self.server.email, "aliases": ["default"], "scopes": scopes})

    def sign_blob(self, _: Fault | None) -> Answer:
        """IAM's signature with a key nobody holds."""
        if self.names["email"] != self.server.email:
            return problem(404, "no such account")
        payload = base64.b64decode(json.loads(self._body())["payload"])
        signature = self.server.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return success({"keyId": "key-of-the-tests", "signedBlob": base64.b64encode(signature).decode()})

    def permissions(self, _: Fault | None) -> Answer:
        """Which of the permissions asked for are held: all."""
        if self._upstream("GET", f"/storage/v1/b/{quote(self.names['bucket'], safe='')}", b"").status != 200:
            return problem(404, "The specified bucket does not exist.")
        asked = [value for name, value in parse_qsl(self.raw_query) if name == "permissions"]
        return success({"kind": "storage#testIamPermissionsResponse", "permissions": asked})

    # -- objects --------------------------------------------------------------------------------------------

    def forward(self, _: Fault | None) -> Answer:
        """Pass on as it is."""
        return self._upstream(self.command, self.path, self._body())

    def nothing(self, _: Fault | None) -> Answer:
        """What is asked for does not exist."""
        self._body()
        return problem(404, "no such upload")

    def look(self, _: Fault | None) -> Answer:
        """Reads: preconditions and generation, then pass on."""
        body = self._body()
        refused = self._judge(self.names["bucket"], self.names["object"], self.query)
        return refused or self._upstream(self.command, self.path, body)

    def change(self, _: Fault | None) -> Answer:
        """Changes of an object: the same, and nothing may come between."""
        body = self._body()
        with self.server.changing:
            refused = self._judge(self.names["bucket"], self.names["object"], self.query)
            return refused or self._upstream(self.command, self.path, body)

    def compose(self, _: Fault | None) -> Answer:
        """Compose: the preconditions of the destination and of every source."""
        body = self._body()
        bucket = self.names["bucket"]
        with self.server.changing:
            refused = self._judge(bucket, self.names["object"], self.query, must_exist=False)
            for source in json.loads(body).get("sourceObjects", []):
                conditions = {name: str(value) for name, value in (source.get("objectPreconditions") or {}).items()}
                if source.get("generation"):
                    conditions["generation"] = str(source["generation"])
                refused = refused or self._judge(bucket, source["name"], conditions)
            return refused or self._upstream(self.command, self.path, body)

    def download(self, _: Fault | None) -> Answer:
        """Read the bytes, with a token."""
        return self._download(self.names["bucket"], self.names["object"], self.query)

    def signed(self, _: Fault | None) -> Answer:
        """Read the bytes by a signed link."""
        self._body()
        front = self.server
        query = check(
            self.command, self.raw_path, self.raw_query, self.lower,
            email=front.email, key=front.key.public_key(), now=front.clock.now(),
        )  # fmt: skip
        bucket, name = self.names["bucket"], self.names["object"]
        found = self._metadata(bucket, name)
        if found is None or query.get("generation", found["generation"]) != found["generation"]:
            return xml_problem(404, "NoSuchKey", "The specified key does not exist.")
        answer = self._download(bucket, name, {})
        headers = dict(answer.headers)
        kind = found.get("contentType") or query.get("response-content-type")  # the object's own type wins
        disposition = query.get("response-content-disposition") or found.get("contentDisposition")
        headers |= {"Content-Type": kind} if kind else {}
        headers |= {"Content-Disposition": disposition} if disposition else {}
        return answer._replace(headers=headers)

    def _download(self, bucket: str, name: str, query: dict[str, str]) -> Answer:
        refused = self._judge(bucket, name, query)
        if refused:
            return refused
        path = f"/download/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
        return self._upstream(self.command, path, b"", streamed=True)

    # -- uploads --------------------------------------------------------------------------------------------

    def upload_whole(self, fault: Fault | None) -> Answer:
        """Media and multipart uploads: one request, one object."""
        if fault and fault.reset_after is not None:
            self._body(fault.reset_after)
            raise ConnectionLostError
        body = self._body()
        name = self.query.get("name") or multipart_name(self.lower.get("content-type", ""), body)
        with self.server.changing:
            refused = self._judge(self.names["bucket"], name, self.query, must_exist=False)
            return refused or self._upstream("POST", self.path, body)

    def upload_start(self, _: Fault | None) -> Answer:
        """Begin a resumable session; preconditions count now and at the end."""
        metadata = json.loads(self._body() or b"{}")
        name = self.query.get("name") or metadata.get("name", "")
        if "x-upload-content-type" in self.lower:
            metadata.setdefault("contentType", self.lower["x-upload-content-type"])
        kept = {key: value for key, value in self.query.items() if key.startswith("if")}
        kept["name"] = name
        bucket = self.names["bucket"]
        if self._upstream("GET", f"/storage/v1/b/{quote(bucket, safe='')}", b"").status != 200:
            return problem(404, "The specified bucket does not exist.")
        refused = self._judge(bucket, name, kept, must_exist=False)
        if refused:
            return refused
        session = Session(bucket, kept, {**metadata, "name": name})
        self.server.sessions[session.key] = session
        location = f"{self.server.endpoint}{self.raw_path}?uploadType=resumable&upload_id={session.key}"
        return Answer(200, {"Location": location, "X-GUploader-UploadID": session.key})

    def upload_chunk(self, fault: Fault | None) -> Answer:
        """Bytes of a session, a question for its state, or its cancellation."""
        session = self.server.sessions.get(self.query["upload_id"])
        if session is None:
            self._body()
            return problem(404, "no such upload")
        with session.lock:
            if self.command == "DELETE":
                self.server.sessions.pop(session.key).content.close()
                return Answer(499, {})
            if session.answer:
                self._body()
                return Answer(*session.answer)
            breaks = fault is not None and fault.reset_after is not None
            body = self._body(fault.reset_after if fault and breaks else None)
            complete = session.accept(body, self.lower.get("content-range"), broken=breaks)
            if breaks:
                raise ConnectionLostError
            return self._finish(session) if complete else Answer(308, session.range_header())

    def _finish(self, session: Session) -> Answer:
        session.verify(self.lower)
        kind, pieces, length = session.multipart()
        query = urlencode({"uploadType": "multipart", **session.query})
        path = f"/upload/storage/v1/b/{quote(session.bucket, safe='')}/o?{query}"
        with self.server.changing:
            refused = self._judge(session.bucket, session.query["name"], session.query, must_exist=False)
            answer = refused or self._upstream("POST", path, pieces, kind=kind, length=length)
        session.content.close()
        session.answer = (answer.status, answer.headers, answer.body)
        return answer

    # -- the emulator ---------------------------------------------------------------------------------------

    def _metadata(self, bucket: str, name: str) -> dict[str, Any] | None:
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        answer = self._upstream("GET", path, b"")
        return json.loads(answer.body) if answer.status == 200 else None

    def _judge(self, bucket: str, name: str, query: dict[str, str], *, must_exist: bool = True) -> Answer | None:
        """The refusal of an operation whose generation or preconditions do not hold, else None."""
        found = self._metadata(bucket, name)
        generation = str(found["generation"]) if found else "0"
        metageneration = str(found["metageneration"]) if found else "0"
        if must_exist and (found is None or query.get("generation", generation) != generation):
            return problem(404, f"No such object: {bucket}/{name}")
        met = (
            query.get("ifGenerationMatch", generation) == generation
            and query.get("ifGenerationNotMatch") != generation
            and query.get("ifMetagenerationMatch", metageneration) == metageneration
            and query.get("ifMetagenerationNotMatch") != metageneration
        )
        return None if met else problem(412, "At least one of the pre-conditions you specified did not hold.")

    def _upstream(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes | IO[bytes]],
        *,
        kind: str | None = None,
        length: int | None = None,
        streamed: bool = False,
    ) -> Answer:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=UPSTREAM_SECONDS)
        headers = {name: value for name, value in self.lower.items() if name in PASSED_ON}
        headers["host"] = self.lower.get("host", self.server.upstream)  # links in answers name the front
        headers["connection"] = "close"  # the answer then owns the socket
        if kind:
            headers["content-type"] = kind
        headers["content-length"] = str(len(body) if isinstance(body, bytes) else length)
        connection.request(method, path, chunks(body), headers)
        answer = connection.getresponse()
        back = {name: value for name, value in answer.getheaders() if PASSED_BACK.fullmatch(name)}
        size = answer.length
        if streamed and size is not None and answer.status in {200, 206} and method != "HEAD":
            return Answer(answer.status, back, stream=answer, length=size)
        with answer:
            return Answer(answer.status, back, answer.read())


BUCKET = r"/storage/v1/b/(?P<bucket>[^/]+)"
OBJECT = BUCKET + r"/o/(?P<object>[^/]+)"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/[^/]+"
ROUTES = [
    # method, path, operation, what serves it
    ("POST", "/token", "token", "token"),
    ("GET", f"{ACCOUNT}/token", "metadata", "token"),
    ("GET", f"{ACCOUNT}/", "metadata", "account"),
    ("POST", "/v1/projects/-/serviceAccounts/(?P<email>[^/:]+):signBlob", "sign_blob", "sign_blob"),
    ("POST|PUT|DELETE", f"/upload{BUCKET}/o", "upload", "upload_whole"),
    ("GET|HEAD", f"/download{OBJECT}", "object.download", "download"),
    ("POST", f"{OBJECT}/compose", "object.compose", "compose"),
    ("POST", f"{OBJECT}/(rewriteTo|copyTo)/.*", "object.rewrite", "look"),
    ("GET|HEAD", OBJECT, "object.get", "look"),
    ("PATCH|PUT", OBJECT, "object.patch", "change"),
    ("DELETE", OBJECT, "object.delete", "change"),
    ("GET", f"{BUCKET}/o", "object.list", "forward"),
    ("GET", f"{BUCKET}/iam/testPermissions", "bucket.permissions", "permissions"),
    ("GET|POST|PATCH|DELETE", r"/storage/v1/b(/[^/]+)?", "bucket", "forward"),
    ("GET|HEAD", "/(?P<bucket>[^/]+)/(?P<object>.+)", "signed", "signed"),
]
OPEN = {"token", "account", "signed"}  # what needs no token
