"""A TCP proxy on loopback that does to connections what networks do: lose, reset, delay, cut off, refuse.

It stands between a process and one of its servers and is told from the test's own process how to behave, at any
moment, for the connections that are open and for those to come. It knows nothing of what is said through it. By hand:
``with TcpProxy("127.0.0.1", 5432) as proxy: ...; proxy.swallow()``.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_PIECE = 64 * 1024
_CONNECT_SECONDS = 10.0

Kind = Literal["pass", "swallow", "delay", "truncate"]
Direction = Literal["questions", "answers"]


@dataclass(frozen=True, slots=True)
class _Behaviour:
    """What is done to bytes on their way.

    Attributes:
        kind: see the methods of `TcpProxy`.
        seconds: by which each piece is delayed.
        left: bytes of the server's that each connection may still pass on.
    """

    kind: Kind = "pass"
    seconds: float = 0.0
    left: int = 0


class TcpProxy:
    """A listener before one server. Everything passes until it is told otherwise; safe between threads.

    Attributes:
        host: where it listens.
        port: likewise.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen on a free port of loopback, before the server at that address."""
        self._target = (host, port)
        self._lock = threading.Lock()
        self._behaviour = _Behaviour()
        self._connections: set[_Connection] = set()
        self._accepted = 0
        self.host, self.port = "127.0.0.1", 0
        self._listener: socket.socket | None = None
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._accepted

    @property
    def open(self) -> int:
        """How many connections are open now, lost ones included."""
        with self._lock:
            return len(self._connections)

    def heal(self, *, reset_lost: bool = False) -> None:
        """Pass everything on again.

        A connection of which bytes were swallowed can never be whole again: it stays silent, as one that a firewall
        forgot, and who waits on it waits until his own time-out; with `reset_lost` he is sent a reset, as from a
        host that came back.
        """
        self._behave(_Behaviour())
        if reset_lost:
            self._reset(only_lost=True)
        if self._listener is None:
            self._listen()

    def swallow(self) -> None:
        """Half-open: take every byte of both sides, pass on none of them, and no end nor error; connect as ever."""
        self._behave(_Behaviour("swallow"))

    def delay(self, seconds: float) -> None:
        """Hold every piece, of both sides, for so long."""
        self._behave(_Behaviour("delay", seconds=seconds))

    def truncate(self, after: int) -> None:
        """Let each connection pass on so many bytes of the server's from now on, then end it in good order."""
        self._behave(_Behaviour("truncate", left=after))

    def reset(self) -> None:
        """Reset every connection that is open; later ones pass."""
        self._reset(only_lost=False)

    def refuse(self) -> None:
        """Reset every connection and accept none, until `heal`."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self._reset(only_lost=False)

    def close(self) -> None:
        """End everything, for good."""
        self.refuse()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="tcp-proxy", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                refused = self._listener is not listener
                self._accepted += 1
            connection = _Connection(self, client)
            if refused:
                connection.reset()
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=connection.serve, args=(self._target,), name="tcp-proxy", daemon=True).start()

    def _behave(self, behaviour: _Behaviour) -> None:
        with self._lock:
            self._behaviour = behaviour
            for connection in self._connections:
                connection.behave(behaviour)

    def _reset(self, *, only_lost: bool) -> None:
        with self._lock:
            chosen = [one for one in self._connections if one.lost or not only_lost]
        for connection in chosen:
            connection.reset()

    def behaviour(self) -> _Behaviour:
        """Return how connections are to behave that begin now."""
        return self._behaviour

    def forget(self, connection: _Connection) -> None:
        """Take note that a connection is over."""
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """One client and, once reached, its server; a thread for each direction."""

    def __init__(self, proxy: TcpProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._changed = threading.Condition()
        self._behaviour = proxy.behaviour()
        self._ended = False
        self.lost = False

    def behave(self, behaviour: _Behaviour) -> None:
        """Behave so from the next byte on."""
        with self._changed:
            self._behaviour = behaviour
            self._changed.notify_all()

    def reset(self) -> None:
        """Send a reset to both sides."""
        self._end(hard=True)

    def serve(self, target: tuple[str, int]) -> None:
        """Carry bytes both ways until either side ends."""
        if self._silent():  # it begins while nothing passes, so it reaches nobody, ever
            self._carry(self._client, self._client, "questions")
            return
        try:
            self._server = socket.create_connection(target, timeout=_CONNECT_SECONDS)
            self._server.settimeout(None)
        except OSError:
            self.reset()
            return
        back = threading.Thread(
            target=self._carry, args=(self._server, self._client, "answers"), name="tcp-proxy", daemon=True
        )
        back.start()
        self._carry(self._client, self._server, "questions")
        back.join()
        self._end(hard=False)

    def _carry(self, source: socket.socket, sink: socket.socket, what: Direction) -> None:
        try:
            while (data := source.recv(_PIECE)) and not self._ended:
                self._pass(data, sink, what)
            if self._silent():
                if what == "questions":
                    self._end(hard=False)  # the client gave up; the server is never told more than its end
            elif not self._ended:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            if not self._silent():
                self.reset()

    def _pass(self, data: bytes, sink: socket.socket, what: Direction) -> None:
        behaviour = self._behaviour
        if behaviour.kind == "delay":
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._behaviour is not behaviour, behaviour.seconds)
        if self._silent():
            return
        if behaviour.kind == "truncate" and what == "answers":
            data = data[: behaviour.left]
            self.behave(_Behaviour("truncate", left=behaviour.left - len(data)))
        sink.sendall(data)
        if self._behaviour == _Behaviour("truncate"):
            self._end(hard=False)

    def _silent(self) -> bool:
        """Tell whether bytes are swallowed; the first that is makes it so for good."""
        with self._changed:
            self.lost = self.lost or self._behaviour.kind == "swallow"
            return self.lost

    def _end(self, *, hard: bool) -> None:
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._changed.notify_all()
        for one in (self._client, self._server):
            if one is None:
                continue
            with contextlib.suppress(OSError):
                if hard:  # a reset is what the kernel sends at the close, once no thread reads any more
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD if hard else socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                one.close()
        self._proxy.forget(self)
